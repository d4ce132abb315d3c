// Comfort for the dashboard. Every page works without it.
"use strict";

// Asks before a form is sent that destroys something.
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// Copies the text of another element.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const label = button.dataset.label || button.textContent;
  button.dataset.label = label;
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    button.textContent = "Copied";
  } catch {
    // Without permission, or without https: the text is selected, ready for the keyboard.
    window.getSelection().selectAllChildren(source);
    button.textContent = "Press Ctrl+C";
  }
  window.setTimeout(() => { button.textContent = label; }, 2000);
});

const showCopyButtons = (root) => {
  for (const button of root.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
};

// A group of boxes of which one must be ticked, or a text beside it filled in.
const checkEventChoice = (form) => {
  const boxes = [...form.querySelectorAll("input[name=events]")];
  const patterns = form.querySelector("[name=patterns]");
  if (boxes.length === 0 || !patterns) return;
  const isChosen = boxes.some((box) => box.checked) || patterns.value.trim() !== "";
  patterns.setCustomValidity(isChosen ? "" : "Tick at least one event, or write a pattern.");
  const count = form.querySelector("[data-chosen]");
  if (count) count.textContent = `${boxes.filter((box) => box.checked).length} ticked`;
};
for (const form of document.querySelectorAll("form[data-events]")) {
  checkEventChoice(form);
  form.addEventListener("input", () => checkEventChoice(form));
}

// Narrows the list of events to those with the searched text.
for (const search of document.querySelectorAll("[data-search]")) {
  search.closest(".field").hidden = false;
  search.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    for (const group of document.querySelectorAll("[data-event-group]")) {
      let found = 0;
      for (const choice of group.querySelectorAll("label.check")) {
        choice.hidden = wanted !== "" && !choice.textContent.toLowerCase().includes(wanted);
        if (!choice.hidden) found += 1;
      }
      group.hidden = found === 0;
      if (wanted !== "") group.open = found > 0;
    }
  });
}

// Fetches the page again and replaces its live parts, while somebody can see it. A part with the
// focus, a selection or an open <details> is left as it is.
const isInUse = (part) => {
  const selection = window.getSelection();
  return part.contains(document.activeElement)
    || (selection && !selection.isCollapsed && part.contains(selection.anchorNode))
    || part.querySelector("details[open]") !== null;
};
// Returns false if the page goes on to show what may be old.
const refresh = async () => {
  if (document.hidden) return true;
  const signal = AbortSignal.timeout(REFRESH_TIMEOUT_MS);
  const answer = await fetch(window.location.href, { headers: { "x-refresh": "1" }, signal });
  // After a logout or the end of the session the answer is the login.
  if (answer.redirected) { window.location.reload(); return true; }
  if (!answer.ok) return false;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (liveIds(fresh) !== liveIds(document)) return replaceMain(fresh);
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (!isInUse(part)) part.replaceWith(document.adoptNode(next));
  }
  showCopyButtons(document);
  return true;
};
const liveIds = (root) => [...root.querySelectorAll("[data-live]")].map((part) => part.id).join();
// The page has other parts now, as the overview has when the store closes. A secret is shown once, so
// its page stays.
const replaceMain = (fresh) => {
  const main = document.getElementById("main");
  if (isInUse(main) || document.getElementById("new-secret")) return false;
  main.replaceWith(document.adoptNode(fresh.getElementById("main")));
  showCopyButtons(document);
  return true;
};
const REFRESH_TIMEOUT_MS = 15_000;
const seconds = Number(document.body.dataset.refresh);
const showStale = (isStale) => {
  const notice = document.getElementById("stale");
  if (notice) notice.hidden = !isStale;
};
// The next request waits for the answer to the last one: a slow node gets no pile of them.
const refreshLater = () => window.setTimeout(async () => {
  const isFresh = await refresh().catch(() => false);
  showStale(!isFresh);
  refreshLater();
}, seconds * 1000);
if (seconds > 0) refreshLater();

showCopyButtons(document);
