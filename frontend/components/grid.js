// Thumbnails with their answers; a click opens the picture, as long as the browser has the file.

function tile(each, component) {
  const file = globalThis.pagePictures?.get(each.path);
  const open = async () => component.setTriggerValue("open", { name: file.name, data: await base64(file) });
  return el(file ? "button" : "div", { class: `tile ${each.kind}`, "data-id": each.path, title: [each.path, each.note].filter(Boolean).join("\n"), onclick: file ? open : null },
    each.src ? el("img", { src: each.src, alt: "" }) : el("span", { class: "blank", "aria-hidden": "true" }, "⬚"),
    el("span", { class: "caption" }, el("strong", {}, each.label), el("span", {}, each.text)),
    each.note ? el("span", { class: "caption small" }, each.note) : null,
    el("span", { class: "caption small path" }, each.path.split("/").at(-1)));
}

export default function (component) {
  const { data, parentElement } = component;
  let root = parentElement.querySelector(".many");
  if (!root) {
    root = el("div", { class: "many" }, el("ul", { class: "grid" }));
    parentElement.append(root);
  }
  root.classList.toggle("dark", isDark(root));
  redraw(root.firstChild, data.pictures.map((each) => el("li", {}, tile(each, component))));
}
