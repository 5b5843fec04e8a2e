// The picture, the ways to bring one in, and the panel beside it. Mounted again with new data by each run.

const scenes = new WeakMap();

class Scene {
  constructor(parent) {
    this.root = el("div", { class: "scene" });
    this.frame = el("div", { class: "frame" });
    this.tools = el("div", { class: "tools" });
    this.samples = el("div", { class: "samples" });
    this.panel = el("section", { class: "panel" });
    this.title = el("h1", { class: "away" });
    this.skip = el("a", { class: "skip", href: "#answer" });
    this.status = el("p", { class: "away", role: "status" });
    this.note = el("p", { class: "note", role: "alert" });
    this.picture = new Picture(this.frame);
    this.intake = new Intake((file) => this.take(file), (sentence) => { this.note.textContent = sentence; });
    this.skip.addEventListener("click", (event) => {
      event.preventDefault();
      this.panel.querySelector("[data-id=answer]")?.focus();
    });
    this.root.append(this.title, this.skip, this.frame, this.tools, this.panel, this.samples,
      this.note, this.status, this.intake.chooser);
    parent.append(this.root);
    this.serial = 0;
    this.pending = null; // a picture that this page shows and the server has not answered yet
  }

  update(component) {
    this.component = component;
    const { data } = component;
    if (this.pending && (data.serial ?? 0) >= this.pending.serial) {
      // The browser's own drawing stays until the page's copy is there.
      if (data.src || data.refusal) this.forget();
    }
    this.view = data.view;
    this.draw();
  }

  forget() {
    if (this.pending?.url) URL.revokeObjectURL(this.pending.url);
    this.pending = null;
  }

  draw() {
    const { data } = this.component;
    this.root.classList.toggle("dark", isDark(this.root));
    this.root.setAttribute("lang", data.language);
    this.title.textContent = data.words.title;
    this.skip.textContent = data.words.skip;
    this.panel.setAttribute("aria-label", data.words.panel);
    const sending = this.pending && (data.serial ?? 0) < this.pending.serial;
    const shown = this.pending
      ? { src: this.pending.url, alt: this.pending.name, refusal: this.pending.refusal, words: data.words,
        undrawn: sending ? null : data.undrawn, view: "picture" }
      : { ...data, view: this.view };
    if (!this.intake.stream) this.picture.draw(shown, (view) => this.look(view));
    const panel = this.pending?.refusal
      ? { state: "empty", title: data.words.no_picture, text: data.words.another }
      : sending ? { state: "waiting", title: data.words.sending } : data.panel;
    const drawn = data.kind === "compare" && !sending
      ? comparePanel({ ...panel, heats: this.heats(panel) }) : answerPanel(panel, (id) => this.act(id));
    redraw(this.panel, drawn);
    this.panel.setAttribute("aria-busy", String(panel.state === "waiting"));
    const said = this.pending?.refusal ?? (this.pending ? null : data.refusal) ?? panel;
    const sentence = [said.title, said.text].filter(Boolean).join(". ").replaceAll("**", "");
    if (this.status.textContent !== sentence) this.status.textContent = sentence;
    this.controls();
  }

  controls() {
    const { words, samples, hint } = this.component.data;
    redraw(this.tools,
      el("button", { class: "primary", "data-id": "choose", onclick: () => this.intake.choose() }, words.choose),
      el("button", { "data-id": "camera", onclick: () => this.camera() }, words.camera),
      el("button", { "data-id": "paste", onclick: () => this.intake.paste(words) }, words.paste));
    redraw(this.samples,
      el("div", { class: "row" }, samples.map((sample) => el("button", {
        class: "sample", "data-id": sample.name, "aria-pressed": String(!this.pending && sample.chosen),
        "aria-label": sample.alt, title: sample.alt, onclick: () => this.sample(sample.name),
      }, el("img", { src: sample.src, alt: "" })))),
      el("p", { class: "small" }, hint));
  }

  heats(panel) {
    return (panel.heatmaps ?? []).map(({ name, heat, seen }) => {
      const frame = el("div", { class: "frame small-frame" });
      const words = { ...this.component.data.words };
      new Picture(frame).draw({ ...this.component.data, heat, seen, words, view: "heat", views: {} }, () => {});
      return el("figure", {}, frame, el("figcaption", { class: "small" }, name));
    });
  }

  look(view) {
    this.view = view;
    this.picture.draw({ ...this.component.data, view }, (next) => this.look(next));
    this.component.setTriggerValue("view", view);
  }

  act(id) {
    if (id !== "link") {
      this.component.setTriggerValue("action", id);
      return;
    }
    const { words } = this.component.data;
    const done = () => { this.note.textContent = words.copied; };
    // Without HTTPS there is no clipboard: the address bar has the same link.
    if (navigator.clipboard) navigator.clipboard.writeText(location.href).then(done, () => { this.note.textContent = words.by_hand; });
    else this.note.textContent = words.by_hand;
  }

  sample(name) {
    this.note.textContent = "";
    this.forget();
    this.component.setTriggerValue("sample", name);
  }

  camera() {
    this.note.textContent = "";
    this.intake.camera(this.frame, this.component.data.words, () => { this.picture.source = null; this.draw(); });
  }

  async take(file) {
    const { data } = this.component;
    this.note.textContent = "";
    this.forget();
    this.serial = Math.max(this.serial, data.serial ?? 0) + 1;
    this.pending = { serial: this.serial, name: file.name, url: URL.createObjectURL(file) };
    if (file.size > data.most_bytes) {
      this.pending.refusal = { title: data.words.too_large, text: data.words.too_large_text };
    }
    this.draw();
    // What the server still holds is another picture, so it has to forget it.
    const text = this.pending.refusal ? null : await base64(file);
    this.component.setTriggerValue("file", { serial: this.serial, name: file.name, data: text });
  }
}

export default function (component) {
  const parent = component.parentElement;
  if (!scenes.has(parent)) scenes.set(parent, new Scene(parent));
  const scene = scenes.get(parent);
  scene.update(component);
  return scene.intake.listen(scene.frame);
}
