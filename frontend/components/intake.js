// How a picture comes in: chosen, dropped or pasted anywhere on the page, or taken with the camera.

class Intake {
  // `take(file)` gets each file; `say(sentence)` gets what went wrong.
  constructor(take, say) {
    this.take = take;
    this.say = say;
    this.stream = null;
    this.chooser = el("input", { type: "file", class: "away", tabindex: "-1", "aria-hidden": "true" });
    this.chooser.addEventListener("change", () => {
      const [file] = this.chooser.files;
      this.chooser.value = ""; // the same file may be chosen again
      if (file) this.take(file);
    });
  }

  choose() {
    this.chooser.accept = "image/*,.heic,.heif,.avif,.tif,.tiff";
    this.chooser.removeAttribute("capture");
    this.chooser.click();
  }

  // Listen to the whole document; the answer stops it.
  listen(frame) {
    const over = (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      frame.classList.add("over");
    };
    const leave = (event) => {
      if (event.type === "drop" || event.relatedTarget === null) frame.classList.remove("over");
    };
    // A view that is just being replaced may listen too: only the first one takes the file.
    const drop = (event) => {
      leave(event);
      const [file] = event.dataTransfer.files;
      if (!file || event.defaultPrevented) return;
      event.preventDefault();
      this.take(file);
    };
    const paste = (event) => {
      const [file] = event.clipboardData?.files ?? [];
      if (!file || event.defaultPrevented) return;
      event.preventDefault();
      this.take(file);
    };
    return listen(this, { dragover: over, dragleave: leave, drop, paste });
  }

  async paste(words) {
    try {
      for (const item of await navigator.clipboard.read()) {
        const type = item.types.find((name) => name.startsWith("image/"));
        if (type) {
          this.take(new File([await item.getType(type)], `${words.pasted}.${type.slice(6)}`, { type }));
          return;
        }
      }
      this.say(words.nothing_to_paste);
    } catch {
      // No permission, or a page without HTTPS: the keys work everywhere.
      this.say(words.paste_by_keys);
    }
  }

  // Show the camera in `frame`; on a page without HTTPS a phone opens its own camera app.
  async camera(frame, words, done) {
    if (!navigator.mediaDevices?.getUserMedia) {
      this.chooser.accept = "image/*";
      this.chooser.setAttribute("capture", "environment");
      this.chooser.click();
      return;
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      this.say(words.no_camera);
      return;
    }
    const video = el("video", { autoplay: true, playsinline: true, "aria-label": words.camera });
    video.muted = true;
    video.srcObject = this.stream;
    const stop = () => {
      this.stream?.getTracks().forEach((track) => track.stop());
      this.stream = null;
      done();
    };
    const shoot = () => {
      const still = el("canvas");
      [still.width, still.height] = [video.videoWidth, video.videoHeight];
      still.getContext("2d").drawImage(video, 0, 0);
      still.toBlob((blob) => {
        stop();
        if (blob) this.take(new File([blob], `${words.photo}.jpg`, { type: "image/jpeg" }));
      }, "image/jpeg", 0.92);
    };
    const take = el("button", { class: "primary", disabled: true, onclick: shoot }, words.take);
    video.addEventListener("loadeddata", () => { take.disabled = false; take.focus(); });
    frame.replaceChildren(video, el("div", { class: "shutter" },
      take, el("button", { onclick: stop }, words.cancel)));
  }
}
