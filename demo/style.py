"""How the page looks: system fonts, so that nothing is fetched, and Gradio's own colours, light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr

SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]

# The page is one column as high as the window: the chat takes what head, text box and settings leave of it.
CSS = """
.gradio-container { max-width: 960px !important; width: 100% !important; margin: 0 auto !important; }
.gradio-container > .main { width: 100% !important; max-width: none !important; padding: 14px 16px 10px !important; }
main.contain > .column { height: calc(100dvh - 24px); flex-wrap: nowrap !important; gap: 8px !important; }
main.contain > .column > * { flex-shrink: 0; }
#chat { flex: 1 1 0 !important; height: auto !important; min-height: 240px !important; border-radius: 14px;
  border: 1px solid var(--border-color-primary) !important; }
.form:has(> #question) { border-radius: 14px; border: 1px solid var(--border-color-primary); }
#settings { border-radius: 14px; border: 1px solid var(--border-color-primary) !important; }
.mm-head { display: flex; align-items: baseline; flex-wrap: wrap; gap: 2px 16px; padding: 0 6px 2px; }
.mm-head h1 { font-size: 1.25rem; font-weight: 650; margin: 0; overflow-wrap: anywhere; color: var(--body-text-color); }
.mm-facts, .mm-status { display: flex; flex-wrap: wrap; color: var(--body-text-color-subdued); }
.mm-facts span, .mm-status span, .mm-status b { color: inherit; }
.mm-facts { font-size: .85rem; }
.mm-status { font-size: .8rem; min-height: 1.4em; padding: 0 6px; font-variant-numeric: tabular-nums; }
.mm-facts span:not(:last-child)::after, .mm-status span:not(:last-child)::after { content: "·"; margin: 0 .5em; }
#chat .placeholder-content { width: 100%; }
#chat .placeholder { text-align: center; padding: 0 16px; }
#chat .placeholder h2 { margin-bottom: .4em; }
#chat .image-frame img { min-height: 96px; max-height: 200px; max-width: 100%; width: auto; object-fit: contain;
  border-radius: 10px; }
#chat .message-row { margin-top: 10px; margin-bottom: 6px; }
/* Both would take a picture out of this page; sharing even uploads it to another site. */
#chat button[aria-label="Share"], #chat .download-link { display: none; }
footer { display: none !important; }
@media (max-width: 640px) {
  .gradio-container > .main { padding: 8px 8px 6px !important; }
  main.contain > .column { height: calc(100dvh - 14px); }
}
"""


def theme() -> gr.themes.ThemeClass:
    import gradio as gr

    return gr.themes.Soft(
        primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", font=SANS, font_mono=MONO
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
    )
