"""How the page looks: system fonts, so that nothing is fetched, and Gradio's own colours, light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr

SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]

# The talk is as high as the window and the rest beside it; on a narrow window the rest is below.
CSS = """
.gradio-container { max-width: 1360px !important; width: 100% !important; margin: 0 auto !important; --mm-top: 76px; }
.gradio-container:has(#tabs) { --mm-top: 134px; }
.gradio-container > .main { width: 100% !important; max-width: none !important; padding: 10px 16px !important; }
main.contain > .column { gap: 8px !important; }
#head { align-items: center; flex-wrap: nowrap; gap: 8px; }
#head > * { min-width: 0 !important; }
#look { flex: 0 0 auto; min-width: 76px !important; }
#talk, #side { gap: 8px !important; }
#talk { height: calc(100dvh - var(--mm-top)); flex-wrap: nowrap !important; }
#talk > * { flex-shrink: 0; }
#side { max-height: calc(100dvh - var(--mm-top)); overflow-y: auto; flex-wrap: nowrap !important; }
#side > * { flex-shrink: 0; }
#chat { flex: 1 1 0 !important; height: auto !important; min-height: 240px !important; border-radius: 14px;
  border: 1px solid var(--border-color-primary) !important; }
.form:has(> #question) { border-radius: 14px; border: 1px solid var(--border-color-primary); }
#side > .block:not(#model-facts) { border-radius: 14px; border: 1px solid var(--border-color-primary) !important; }
#side > .form { border-radius: 14px; border: 1px solid var(--border-color-primary); flex: 0 0 auto; }
#model-facts { padding: 0 6px; }
#side .min_value, #side .max_value { display: none; }
#side .styler > .row > .form { gap: 0; }
.mm-head { display: flex; align-items: baseline; flex-wrap: wrap; gap: 2px 16px; padding: 0 6px 2px; }
.mm-head h1 { font-size: 1.25rem; font-weight: 650; margin: 0; overflow-wrap: anywhere; color: var(--body-text-color); }
.mm-facts, .mm-status { display: flex; flex-wrap: wrap; color: var(--body-text-color-subdued); }
.mm-facts span, .mm-status span, .mm-status b { color: inherit; }
.mm-facts { font-size: .85rem; }
.mm-status { font-size: .8rem; min-height: 1.4em; padding: 0 6px; font-variant-numeric: tabular-nums; }
.mm-facts span:not(:last-child)::after, .mm-status span:not(:last-child)::after { content: "·"; margin: 0 .5em; }
.mm-note { font-size: .85rem; color: var(--body-text-color-subdued); margin: 2px 0 6px; }
.mm-note b { color: inherit; }
#seen-view h2 { font-size: .95rem; margin: 10px 0 2px; }
.mm-tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)); gap: 6px; }
.mm-tiles figure, .mm-marked figure { margin: 0; }
.mm-tiles img { width: 100%; image-rendering: pixelated; border-radius: 6px; background: #0001; }
.mm-marked img { max-width: 100%; border-radius: 6px; }
.mm-tiles figcaption, .mm-marked figcaption { font-size: .75rem; color: var(--body-text-color-subdued); }
.mm-prompt { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .75rem; max-height: 340px; overflow-y: auto;
  padding: 8px; border-radius: 8px; border: 1px solid var(--border-color-primary);
  background: var(--background-fill-secondary); color: var(--body-text-color); }
.mm-prompt mark { background: var(--primary-100); color: var(--primary-900); border-radius: 4px; padding: 0 2px; }
#chat .placeholder-content { width: 100%; }
#chat .placeholder { text-align: center; padding: 0 16px; }
#chat .placeholder h2 { margin-bottom: .4em; }
#chat .image-frame img { min-height: 96px; max-height: 200px; max-width: 100%; width: auto; object-fit: contain;
  border-radius: 10px; }
#chat video { max-height: 260px; border-radius: 10px; }
#chat .icon-button-wrapper:not(:has(button, a)) { display: none; }
#chat .message-row { margin-top: 10px; margin-bottom: 6px; }
/* Both would take a picture out of this page; sharing even uploads it to another site. */
#chat button[aria-label="Share"], #chat .download-link { display: none; }
/* Rows without buttons of their own, and the bin, which would lie on the first picture. */
.message-buttons:not(:has(button:not([aria-label="Share"]))) { display: none !important; }
.bubble-wrap { padding-top: 26px !important; }
/* Gradio's accent is too pale for small text. */
#tabs button[role="tab"][aria-selected="true"] { color: var(--primary-600); }
.dark #tabs button[role="tab"][aria-selected="true"] { color: var(--primary-300); }
footer { display: none !important; }
@media (max-width: 760px) {
  .gradio-container > .main { padding: 6px 8px !important; }
  #talk { height: calc(100dvh - 66px); min-width: 0 !important; flex-basis: 100% !important; }
  #side { max-height: none; overflow-y: visible; min-width: 0 !important; flex-basis: 100% !important; }
  .mm-head h1 { font-size: 1.1rem; }
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
        button_secondary_background_fill_hover_dark="*neutral_700",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_info_text_color="*neutral_500",
        checkbox_label_background_fill_selected="*primary_600",
        checkbox_label_background_fill_selected_dark="*primary_600",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        block_info_text_color_dark="*neutral_400",
    )
