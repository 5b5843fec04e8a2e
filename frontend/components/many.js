// The way in for many pictures: files are sent a few at a time, each when those before it are answered.

const BATCH_FILES = 8;
const BATCH_BYTES = 8_000_000;
const intakes = new WeakMap();

// All files below what was dropped, folders walked through.
async function walk(entry, path = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: path + file.name }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  const below = await Promise.all(found.map((each) => walk(each, `${path}${entry.name}/`)));
  return below.flat();
}

class ManyFiles {
  constructor(parent) {
    this.root = el("div", { class: "many" });
    this.drop = el("div", { class: "drop" });
    this.status = el("p", { class: "away", role: "status" });
    this.queue = [];
    [this.sent, this.received] = [-1, -1];
    const chooser = (folder) => {
      const input = el("input", { type: "file", multiple: true, class: "away", tabindex: "-1", "aria-hidden": "true" });
      if (folder) input.webkitdirectory = true;
      input.addEventListener("change", () => {
        this.add([...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
        input.value = "";
      });
      return input;
    };
    [this.some, this.folder] = [chooser(false), chooser(true)];
    this.root.append(this.drop, this.some, this.folder, this.status);
    parent.append(this.root);
  }

  update(component) {
    this.component = component;
    const { data } = component;
    this.root.classList.toggle("dark", isDark(this.root));
    if (this.session !== data.session) {
      // The server was restarted and knows none of these pictures: if some had no answer, all begin again.
      if (this.sent > this.received || this.queue.length) {
        this.queue = [...globalThis.pagePictures].map(([path, file]) => ({ file, path }));
        this.first = true;
      }
      this.sent = -1;
      this.session = data.session;
    }
    this.received = data.received;
    const busy = this.queue.length > 0 || data.busy;
    redraw(this.drop,
      el("button", { class: "primary", "data-id": "some", disabled: busy, onclick: () => this.some.click() }, data.words.some),
      el("button", { "data-id": "folder", disabled: busy, onclick: () => this.folder.click() }, data.words.folder),
      busy ? el("button", { "data-id": "stop", onclick: () => this.stop() }, data.words.stop) : null,
      el("p", { class: "small" }, data.words.hint));
    if (this.status.textContent !== data.said) this.status.textContent = data.said;
    // The answer to what was sent is here, so the next files may come.
    if (data.received >= this.sent) this.send();
  }

  async dropped(event) {
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    if (!entries.length) return;
    event.preventDefault();
    this.add((await Promise.all(entries.map((entry) => walk(entry)))).flat());
  }

  add(found) {
    // What the operating system keeps beside pictures is not one.
    const pictures = found.filter(({ file }) => !file.name.startsWith(".") && file.name !== "Thumbs.db");
    if (!pictures.length || this.queue.length) return;
    // The grid is another component; it opens a picture from here.
    globalThis.pagePictures = new Map(pictures.map(({ file, path }) => [path, file]));
    this.queue = pictures;
    this.total = pictures.length;
    this.first = true;
    this.send();
  }

  stop() {
    this.queue = [];
    this.component.setTriggerValue("stop", true);
  }

  async send() {
    if (!this.queue.length) return;
    const { session } = this;
    const { data } = this.component;
    const batch = [];
    let bytes = 0;
    while (this.queue.length && batch.length < BATCH_FILES && (bytes < BATCH_BYTES || !batch.length)) {
      const { file, path } = this.queue.shift();
      bytes += file.size;
      batch.push({ path, file });
    }
    this.sent = (data.received ?? 0) + 1;
    const first = this.first;
    this.first = false;
    const files = await Promise.all(batch.map(async ({ path, file }) => ({
      path, data: file.size > data.most_bytes ? null : await base64(file).catch(() => null),
    })));
    await connection();
    if (this.session !== session) return; // another process has all of them to come
    this.component.setTriggerValue("files", { batch: this.sent, total: this.total, first, files });
  }
}

export default function (component) {
  const parent = component.parentElement;
  if (!intakes.has(parent)) intakes.set(parent, new ManyFiles(parent));
  const intake = intakes.get(parent);
  intake.update(component);
  return listen(intake, { dragover: (event) => event.preventDefault(), drop: (event) => intake.dropped(event) });
}
