// Small helpers of all components of the page. The files are joined in the order that __init__.py names.

// An element with attributes, listeners (`onclick`) and children; null children are left out.
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  // Text only ever becomes a text node: a label or a file name can't be markup.
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

// Replace the children of `place`; the element with the same data-id keeps the focus of the keyboard.
function redraw(place, ...children) {
  const root = place.getRootNode();
  const focused = place.contains(root.activeElement) ? root.activeElement.dataset.id : null;
  place.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  if (focused) place.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

// The base64 text of a file.
function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).split(",", 2)[1] ?? "");
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

// Until the server can be reached; if it was away, until it has drawn the page again, as `corner.js` asks it to.
// What a component sends before is lost.
async function connection() {
  const { dataset } = document.querySelector("[data-testid=stApp]");
  if (dataset.testConnectionState === "CONNECTED") return;
  do await new Promise((resolve) => setTimeout(resolve, 500));
  while (dataset.testConnectionState !== "CONNECTED" || dataset.testScriptState !== "notRunning");
}

// Listen to the whole document for `owner`; the answer stops it. Streamlit calls the answer of a component's
// last run alone, when the component goes, so each run has to stop the listeners of the one before.
function listen(owner, listeners) {
  owner.listening?.abort();
  const listening = new AbortController();
  owner.listening = listening;
  for (const [name, listener] of Object.entries(listeners)) {
    document.addEventListener(name, listener, { signal: listening.signal });
  }
  return () => listening.abort();
}

// Whether the theme is dark, read from the background that Streamlit gives to components.
function isDark(node) {
  const hex = getComputedStyle(node).getPropertyValue("--st-background-color").trim();
  const parts = /^#(..)(..)(..)/.exec(hex);
  return parts !== null && parts.slice(1).reduce((sum, part) => sum + parseInt(part, 16), 0) < 384;
}

// A share of 100 % as a bar on a fixed scale; the number beside it is its text, so it is hidden here.
function bar(score, kind) {
  const fill = el("span", { class: "fill" });
  fill.style.width = `${Math.max(score * 100, score > 0 ? 0.6 : 0)}%`;
  return el("span", { class: `track ${kind}`, "aria-hidden": "true" }, fill);
}
