// The picture in its frame: as it is, what the model sees of it, or where the model looked.

class Picture {
  constructor(frame) {
    this.frame = frame;
    this.source = null;
    this.image = null;
  }

  // Draw `shown`: {src, alt, name, seen, heat, view, views, refusal, words}; `choose(view)` switches.
  async draw(shown, choose) {
    if (shown.refusal) {
      this.source = null;
      redraw(this.frame, el("div", { class: "refusal" },
        el("span", { class: "sign", "aria-hidden": "true" }, "!"),
        el("h2", {}, shown.refusal.title),
        el("p", {}, shown.refusal.text),
        shown.refusal.advice ? el("p", {}, shown.refusal.advice) : null,
        shown.refusal.reference ? el("p", { class: "small" }, shown.refusal.reference) : null));
      return;
    }
    if (!shown.src) {
      this.source = null;
      redraw(this.frame, el("div", { class: "nothing" },
        el("span", { class: "sign", "aria-hidden": "true" }, "⬚"),
        el("p", {}, shown.undrawn ?? shown.words.drop)));
      return;
    }
    if (shown.src !== this.source) {
      const image = new Image();
      image.src = shown.src;
      this.source = shown.src;
      try {
        await image.decode();
      } catch {
        // A kind of file that the browser can't show; the page's own copy comes with the answer.
        if (this.source === shown.src) {
          await this.draw({ ...shown, src: null, undrawn: shown.undrawn ?? shown.words.drawn_later }, choose);
        }
        return;
      }
      if (this.source !== shown.src) return; // another picture came while this one was decoded
      this.image = image;
    }
    if (!this.image) return;
    const stage = this.stage(shown);
    redraw(this.frame, stage, this.switch(shown, choose));
  }

  stage(shown) {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    const stage = el("div", { class: "stage" });
    const ratio = shown.view === "seen" && shown.seen
      ? shown.seen.input_width / shown.seen.input_height : width / height;
    stage.style.setProperty("--ratio", ratio);
    if (shown.view === "seen" && shown.seen) {
      stage.append(this.input(shown));
      return stage;
    }
    this.image.alt = shown.alt;
    stage.append(this.image);
    if (shown.seen) {
      if (shown.view === "heat" && shown.heat) stage.append(this.spotlight(shown));
      const part = el("div", { class: `crop ${shown.view}`, title: shown.words.crop });
      const { left, top, width: w, height: h, image_width: W, image_height: H } = shown.seen;
      // Where the whole picture was used there is nothing to mark.
      if (w < W * 0.995 || h < H * 0.995) {
        Object.assign(part.style, { left: `${100 * left / W}%`, top: `${100 * top / H}%`,
          width: `${100 * w / W}%`, height: `${100 * h / H}%` });
        stage.append(part);
      }
    }
    return stage;
  }

  // The model's input: the crop at the model's own resolution, each of its pixels visible.
  input({ seen, alt, words }) {
    const canvas = el("canvas", { role: "img", "aria-label": `${alt}: ${words.seen}` });
    [canvas.width, canvas.height] = [seen.input_width, seen.input_height];
    const scale = this.image.naturalWidth / seen.image_width;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.image, seen.left * scale, seen.top * scale, seen.width * scale,
      seen.height * scale, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  // Dark where the network did not look. Light, not colour: it reads the same for every eye.
  spotlight({ seen, heat, words }) {
    const small = el("canvas");
    [small.width, small.height] = [heat.width, heat.height];
    const context = small.getContext("2d");
    const pixels = context.createImageData(heat.width, heat.height);
    heat.values.flat().forEach((value, index) => {
      pixels.data.set([4, 8, 16, 210 * (1 - value)], index * 4);
    });
    context.putImageData(pixels, 0, 0);
    const canvas = el("canvas", { class: "light", role: "img", "aria-label": words.heat });
    canvas.width = this.image.naturalWidth;
    canvas.height = this.image.naturalHeight;
    const [x, y] = [canvas.width / seen.image_width, canvas.height / seen.image_height];
    const place = [seen.left * x, seen.top * y, seen.width * x, seen.height * y];
    const large = canvas.getContext("2d");
    large.fillStyle = "rgba(4, 8, 16, 0.82)";
    large.fillRect(0, 0, canvas.width, canvas.height);
    large.clearRect(...place);
    large.imageSmoothingQuality = "high";
    large.drawImage(small, ...place);
    return canvas;
  }

  // One stop of the Tab key; the arrows move between the views.
  switch(shown, choose) {
    const names = Object.keys(shown.views ?? {});
    if (names.length < 2) return null;
    const keys = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    const move = (event) => {
      const step = keys[event.key];
      if (!step) return;
      event.preventDefault();
      const next = names[(names.indexOf(shown.view) + step + names.length) % names.length];
      choose(next);
      this.frame.querySelector(`[data-id="view-${next}"]`)?.focus();
    };
    return el("div", { class: "switch", role: "radiogroup", "aria-label": shown.words.switch, onkeydown: move },
      names.map((name) => el("button", {
        role: "radio", "data-id": `view-${name}`, "aria-checked": String(name === shown.view),
        tabindex: name === shown.view ? "0" : "-1", onclick: () => choose(name),
      }, shown.views[name])));
  }
}
