// In the page's header: whether the service is ready, and the language.

export default function ({ data, parentElement, setTriggerValue }) {
  let root = parentElement.querySelector(".corner");
  if (!root) {
    root = el("div", { class: "corner" });
    parentElement.append(root);
  }
  root.classList.toggle("dark", isDark(root));
  const choose = (event) => setTriggerValue("language", event.target.value);
  redraw(root,
    el("span", { class: data.ready ? "state" : "state away-state" }, el("span", { class: "dot", "aria-hidden": "true" }), el("span", { class: "text" }, data.text)),
    el("select", { "aria-label": data.label, "data-id": "language", onchange: choose },
      Object.entries(data.languages).map(([code, name]) =>
        el("option", { value: code, selected: code === data.language, lang: code, label: code.toUpperCase() }, name))));
}
