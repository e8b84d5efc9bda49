"""What the page does in the browser by itself: Escape stops, light or dark, names for what has only a picture on it.

Everything here is a help on top; without it the page works as well.
"""

from __future__ import annotations

# Light or dark as the visitor chose last, else as the system is; kept in the browser only.
_LOOK = """
const button = () => document.querySelector("#look");
const show = (dark) => {
  document.body.classList.toggle("dark", dark);
  const found = button();
  if (found) {
    found.textContent = dark ? "Light" : "Dark";
    found.setAttribute("aria-label", dark ? "Use light colors" : "Use dark colors");
  }
};
"""

TOGGLE = f"""() => {{ {_LOOK}
  const dark = !document.body.classList.contains("dark");
  try {{ localStorage.setItem("mminstruct-look", dark ? "dark" : "light"); }} catch {{ }}
  show(dark);
}}"""

# Gradio names most controls; these have a picture only, or a name that is none.
_NAMES = """
const NAMES = [
  ["#question textarea", "Your question"],
  ["#question input[type=file]", "Pictures and videos for the question"],
  ["#compare-question textarea", "Your question to both"],
  ["#compare-question input[type=file]", "Pictures and videos for the question to both"],
  ["#tools-question textarea", "Your question, for a model with tools"],
  ["#tools-question input[type=file]", "Pictures for the question"],
  [".upload-button", "Add pictures or videos"],
  [".submit-button", "Send"],
  [".stop-button", "Stop the answer"],
  ["#chat .edit-textarea, #chat .message textarea", "The question in other words"],
  ["#import input[type=file]", "A conversation from a file"],
];
const name = () => {
  for (const [place, text] of NAMES)
    for (const found of document.querySelectorAll(place))
      if (found.getAttribute("aria-label") !== text) found.setAttribute("aria-label", text);
  // The chat drops the alternative text of its pictures; their files are named after what is to be seen.
  for (const found of document.querySelectorAll(".image-frame img:not([alt]), .image-frame img[alt='']")) {
    const file = decodeURIComponent(found.src.split("/").pop() || "");
    found.alt = file.replace(/\\.[a-z]+$/, "") || "picture";
    found.closest("button")?.setAttribute("aria-label", `Enlarge ${found.alt}`);
  }
  // Thumbnails of uploads are list items outside of a list, or their list has buttons in it.
  for (const found of document.querySelectorAll(".thumbnail-wrapper[role=listitem], .thumbnails[role=list]"))
    found.setAttribute("role", "group");
  // Gradio calls the row of examples a list, but has buttons in it and no list items.
  for (const found of document.querySelectorAll("#chat .examples[role=list]")) found.setAttribute("role", "group");
};
"""

SCRIPT = f"""() => {{ {_LOOK} {_NAMES}
  let kept = null;
  try {{ kept = localStorage.getItem("mminstruct-look"); }} catch {{ }}
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  show(kept ? kept === "dark" : system.matches);
  system.addEventListener("change", () => {{
    let chosen = null;
    try {{ chosen = localStorage.getItem("mminstruct-look"); }} catch {{ }}
    if (!chosen) show(system.matches);
  }});
  name();
  new MutationObserver(name).observe(document.body, {{ childList: true, subtree: true }});
  document.addEventListener("keydown", (event) => {{
    if (event.key !== "Escape" || event.defaultPrevented) return;
    for (const stop of document.querySelectorAll(".stop-button"))
      if (stop.offsetParent !== null) stop.click();
  }});
}}"""
