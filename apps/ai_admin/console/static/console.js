// What the console adds where scripts run: times in the reader's zone, keys, the bar of those chosen, copying, and
// search as one types.
"use strict";

document.documentElement.classList.add("scripted");
const language = document.documentElement.lang;
const search = document.querySelector("#search");
const help = document.querySelector("#help");

function showTimes() {
  const day = new Intl.DateTimeFormat(language, { dateStyle: "medium" });
  const minute = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });
  for (const time of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    time.textContent = (time.dataset.form === "day" ? day : minute).format(moment);
    time.title = exact.format(moment);
  }
}

function showChosen() {
  const bar = document.querySelector(".bulk");
  if (!bar) return;
  const boxes = [...document.querySelectorAll("input[type=checkbox][name=id]")];
  const all = document.querySelector("#all");
  const count = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    bar.hidden = chosen === 0;
    bar.querySelector("output").textContent = String(chosen);
    all.checked = chosen > 0 && chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
  };
  for (const box of boxes) box.addEventListener("change", count);
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    count();
  });
  count();
}

function move(step) {
  const rows = [...document.querySelectorAll("tr[data-row]")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("here"));
  const next = rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
  for (const row of rows) row.classList.toggle("here", row === next);
  next.querySelector("a").focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function onKey(event) {
  if (event.key === "Escape") for (const open of document.querySelectorAll("details.drop[open]")) open.open = false;
  const typing = event.target.closest("input:not([type=checkbox], [type=radio]), select, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const here = document.querySelector("tr.here input[type=checkbox][name=id]");
  const keys = {
    "/": () => search?.focus(),
    j: () => move(1),
    k: () => move(-1),
    x: () => here?.click(),
    n: () => document.querySelector("[data-key=n]")?.click(),
    "?": () => help?.showModal(),
  };
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
}

// The list as the address has it now: its parts take the place of those that are there. What is typed into stays.
async function showFound(address, signal) {
  const answer = await fetch(address, { signal, headers: { Accept: "text/html" } });
  const found = new DOMParser().parseFromString(await answer.text(), "text/html");
  // Whose session is over is asked to sign in.
  if (answer.redirected && !found.querySelector("#list")) return location.assign(address);
  if (!answer.ok) throw new Error(`The list was answered with ${answer.status}`);
  for (const part of document.querySelectorAll("[data-live]")) part.replaceWith(found.getElementById(part.id));
  history.replaceState(null, "", answer.url);
  showTimes();
  showChosen();
  return document.querySelector("#count").dataset.said;
}

function searchAsTyped() {
  const form = document.querySelector("form[data-typed]");
  if (!form) return;
  const said = document.querySelector("#said");
  let waiting;
  let asked = new AbortController();
  const ask = async () => {
    const query = String(new URLSearchParams([...new FormData(form)].filter(([, value]) => value)));
    const mine = (asked = new AbortController());
    document.querySelector("#list").setAttribute("aria-busy", "true");
    try {
      said.textContent = await showFound(query ? `${form.action}?${query}` : form.action, mine.signal);
      said.classList.add("visually-hidden");
    } catch {
      // Who typed on has asked anew, and hears of that.
      if (mine.signal.aborted) return;
      document.querySelector("#list").removeAttribute("aria-busy");
      said.textContent = form.dataset.failed;
      said.classList.remove("visually-hidden");
    }
  };
  search.addEventListener("input", (event) => {
    clearTimeout(waiting);
    asked.abort();
    // Letters that are still being put together are no word yet.
    if (!event.isComposing) waiting = setTimeout(ask, 180);
  });
  search.addEventListener("compositionend", () => search.dispatchEvent(new Event("input")));
  form.addEventListener("submit", () => {
    clearTimeout(waiting);
    asked.abort();
  });
}

async function copy(button) {
  const text = document.querySelector(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = button.dataset.copied;
  } catch {
    getSelection().selectAllChildren(document.querySelector(button.dataset.copy));
  }
}

showTimes();
showChosen();
searchAsTyped();
document.addEventListener("keydown", onKey);
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
  if (event.target.closest("[data-close]")) help.close();
  for (const open of document.querySelectorAll("details.drop[open]")) if (!open.contains(event.target)) open.open = false;
});
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || event.defaultPrevented) return;
  button.classList.add("busy");
  button.setAttribute("aria-busy", "true");
});
// A page that the browser brings back is not busy.
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll(".busy")) button.classList.remove("busy");
});
