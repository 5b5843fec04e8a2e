// The answer beside the picture: the label, bars on a fixed scale, and what the score means.

function answerPanel(panel, act) {
  const button = ({ id, label }) => el("button", { "data-id": id, onclick: () => act(id) }, label);
  return [
    heading(panel),
    panel.bars?.length ? el("ol", { class: "bars" }, panel.bars.map((row) => el("li", { class: row.kind },
      el("span", { class: "label", title: row.label }, row.label), bar(row.score, row.kind),
      el("span", { class: "value" }, row.text)))) : null,
    panel.meaning ? el("p", { class: "meaning" }, panel.meaning) : null,
    panel.set ? el("p", { class: "meaning" }, panel.set) : null,
    panel.actions?.length ? el("div", { class: "actions" }, panel.actions.map(button)) : null,
    panel.knows ? el("blockquote", {}, panel.knows) : null,
    panel.details ? el("details", {},
      el("summary", { "data-id": "details" }, panel.summary),
      el("dl", {}, panel.details.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]))) : null,
  ];
}

// The headline of a panel: an answer, or a box where the models do not know or do not agree.
function heading(panel) {
  const title = el("h2", { class: "title", tabindex: "-1", "data-id": "answer" }, panel.title);
  const text = panel.text ? el("p", { class: "text" }, ...strong(panel.text)) : null;
  const kind = { unsure: "box unsure", trouble: "box trouble", waiting: "waiting", empty: "waiting" }[panel.state];
  return el("div", { class: kind ?? "said" }, title, text);
}

// `**word**` becomes strong; everything else stays text.
function strong(text) {
  return text.split("**").map((part, index) => (index % 2 ? el("strong", {}, part) : part));
}

// Labels as rows, models as columns, one scale.
function comparePanel(panel) {
  const head = el("tr", {}, el("td"), panel.models?.map((model) => el("th", { scope: "col" },
    el("span", { class: "name" }, model.name), model.doubt ? el("strong", { class: "doubt" }, model.doubt) : null, model.accuracy ? el("span", { class: "small" }, model.accuracy) : null)));
  const rows = panel.rows?.map((row) => el("tr", {}, el("th", { scope: "row" }, row.label),
    row.cells.map((cell, index) => el("td", {}, cell === null ? "–" : el("span", { class: "cell" },
      bar(cell.score, `m${index % 4}`), el("span", { class: "value" }, cell.text))))));
  const foot = panel.foot?.map((row) => el("tr", { class: "small" }, el("th", { scope: "row" }, row.label),
    row.cells.map((text) => el("td", {}, text))));
  return [
    heading(panel),
    rows?.length ? el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": panel.caption },
      el("table", {}, el("thead", {}, head), el("tbody", {}, rows), el("tfoot", {}, foot))) : null,
    (panel.notes ?? []).map((note) => el("p", { class: "meaning" }, note)),
    panel.heats?.length ? el("div", { class: "heats" }, panel.heats) : null,
  ];
}
