// The picture, the ways to bring one in, and the panel beside it. Mounted again with new data by each run.

const scenes = new WeakMap();

// The visitor's own picture, in whatever view it was brought in: the server may lose it, by a restart, and while
// the service is away only the browser can draw it. A sample takes its place.
function keep(own) {
  const { url } = globalThis.pageOwn ?? {};
  if (url) setTimeout(() => URL.revokeObjectURL(url), 10_000); // it may still be being decoded
  globalThis.pageOwn = own;
}

const PATIENCE_MS = 4000; // until a small picture is sent again, longer each time
let latest; // the scene of the view that is open

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
  }

  update(component) {
    this.component = component;
    latest = this;
    const { data } = component;
    const own = globalThis.pageOwn;
    // A picture of another component, such as the grid's, came later.
    if (own?.session === data.session && data.serial > own.serial) keep(null);
    // The server knows nothing of this visit: it was restarted, or the connection was lost for too long.
    if (own && own.session !== data.session) {
      Object.assign(own, { session: data.session, serial: data.serial + 1 });
      this.send(own);
    }
    this.view = data.view;
    this.draw();
  }

  draw() {
    const { data } = this.component;
    this.root.classList.toggle("dark", isDark(this.root));
    this.root.setAttribute("lang", data.language);
    this.title.textContent = data.words.title;
    this.skip.textContent = data.words.skip;
    this.panel.setAttribute("aria-label", data.words.panel);
    const own = globalThis.pageOwn;
    const sending = own && data.serial < own.serial;
    // The browser's own drawing stays until the page's copy is there.
    this.pending = sending || (own && !data.src && !data.refusal) ? own : null;
    const shown = this.pending
      ? { src: own.url, alt: own.name, refusal: own.refusal, words: data.words,
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
    keep(null);
    this.component.setTriggerValue("sample", name);
  }

  camera() {
    this.note.textContent = "";
    this.intake.camera(this.frame, this.component.data.words, () => { this.picture.source = null; this.draw(); });
  }

  take(file) {
    const { data } = this.component;
    this.note.textContent = "";
    const refusal = file.size > data.most_bytes
      ? { title: data.words.too_large, text: data.words.too_large_text } : null;
    const last = globalThis.pageOwn?.session === data.session ? globalThis.pageOwn.serial : 0;
    const serial = Math.max(last, data.serial) + 1;
    keep({ file, name: file.name, url: URL.createObjectURL(file), refusal, session: data.session, serial });
    this.send(globalThis.pageOwn);
    this.draw();
  }

  // Sent until the server has it: Streamlit drops the first event of a new session.
  async send(own, patience = PATIENCE_MS + (own.refusal ? 0 : own.file.size / 100)) {
    const { serial, session, name } = own;
    const current = () => globalThis.pageOwn === own && own.serial === serial && own.session === session;
    await connection();
    // What the server still holds is another picture, so it has to forget it.
    const text = own.refusal ? null : await base64(own.file).catch(() => null);
    if (!current()) return;
    latest.component.setTriggerValue("file", { serial, name, data: text });
    setTimeout(() => {
      if (current() && latest.component.data.serial < serial) latest.send(own, 2 * patience);
    }, patience);
  }
}

export default function (component) {
  const parent = component.parentElement;
  if (!scenes.has(parent)) scenes.set(parent, new Scene(parent));
  const scene = scenes.get(parent);
  scene.update(component);
  return scene.intake.listen(scene.frame);
}
