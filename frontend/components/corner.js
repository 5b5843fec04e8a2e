// In the page's header: whether the service is ready, and the language. It is in every view, so it also asks for the
// view again when the connection is back: a new process knows nothing of it, and the fragments of a view can't ask.

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
  root.watch?.disconnect();
  const watch = new MutationObserver(([{ target }]) => {
    if (target.dataset.testConnectionState === "CONNECTED") setTriggerValue("back", true);
  });
  root.watch = watch;
  watch.observe(document.querySelector("[data-testid=stApp]"), { attributeFilter: ["data-test-connection-state"] });
  return () => watch.disconnect();
}
