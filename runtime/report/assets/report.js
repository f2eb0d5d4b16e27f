"use strict";

/* The page of a report: builds every element from the embedded document. Strings only ever become
 * text nodes, so that nothing a run was called or logged can turn into markup.
 */
(() => {
  const report = JSON.parse(document.getElementById("document").textContent);
  const page = document.getElementById("page");
  const number = (value) => value.toLocaleString("en");

  function make(tag, className = "", ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children.filter((child) => child !== "" && child != null && child !== false));
    return element;
  }

  const clock = new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
  });
  const moment = (seconds) => seconds ? clock.format(new Date(seconds * 1000)) : "unknown";
  const since = (seconds) => `+${Format.duration(Math.max(0, seconds - report.origin))}`;
  const atStep = (entry) => entry.step == null ? "" : `${entry.estimated ? "~" : ""}${number(entry.step)}`;

  /** A point in time: how long after the start, with the date on hover. */
  function when(seconds) {
    const element = make("span", "soft", since(seconds));
    element.title = moment(seconds);
    return element;
  }

  function section(title, count, ...children) {
    const heading = make("h2", "", title, count === null ? "" : make("span", "count", count));
    return make("section", "", heading, ...children);
  }

  /** `columns` are [title, classes, cell of a row]. */
  function table(columns, rows) {
    const head = make("tr", "", ...columns.map(([title, classes]) => make("th", classes.includes("right") ? "right" : "", title)));
    const body = rows.map((row) => make("tr", "", ...columns.map(([title, classes, cell]) => {
      const element = make("td", classes, cell(row));
      element.dataset.title = title;
      return element;
    })));
    const element = make("table", "rows", make("thead", "", head), make("tbody", "", ...body));
    return make("div", "sheet", element);
  }

  function pairs(title, entries) {
    if (!entries.length) return "";
    const rows = entries.map(([key, value]) => make("tr", "", make("td", "key", key), make("td", "", make("span", "mono", value))));
    return section(title, number(entries.length), make("div", "sheet", make("table", "", make("tbody", "", ...rows))));
  }

  function head() {
    const names = { crashed: "crashed", running: "still running", unknown: "state unknown" };
    const state = make("span", `state ${report.state}`, names[report.state] ?? report.state);
    const parts = [
      make("div", "eyebrow", [report.project, report.id].filter(Boolean).join(" · ")),
      make("div", "heading", make("h1", "", report.name), state),
    ];
    if (report.attempts.length) {
      parts.push(make("p", "when", `Started ${moment(report.origin)} · ${attemptsInWords()}`));
    }
    const story = report.story || (report.state === "crashed" && report.attempts.length ? "The process ended without a word: it was killed, or its machine went down." : "");
    if (story) parts.push(make("div", `story ${report.state}`, report.state === "stopped" ? `Stopped ${story}` : story));
    const length = { label: report.state === "running" ? "duration so far" : "duration", value: report.duration == null ? "unknown" : Format.duration(report.duration), note: "" };
    parts.push(make("div", "tiles", ...[length, ...report.tiles].map((tile) =>
      make("div", "tile", make("div", "label", tile.label), make("div", "value", tile.value), make("div", "note", tile.note)))));
    if (report.facts.length) {
      parts.push(make("dl", "facts", ...report.facts.map(([key, value]) =>
        make("div", "", make("dt", "", key), make("dd", key === "command" ? "mono" : "", value)))));
    }
    return make("header", "", ...parts);
  }

  function attemptsInWords() {
    const count = report.attempts.length;
    return count === 1 ? "one attempt" : `${number(count)} attempts`;
  }

  const stage = new Stage(report);
  const plots = report.metrics.map((metric) => new Plots.Plot(metric, stage, make));

  function choice(label, options, current, choose) {
    const group = make("div", "switch");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", label);
    for (const [value, text] of options) {
      const button = make("button", "", text);
      button.type = "button";
      button.dataset.choice = value;
      button.setAttribute("aria-pressed", String(value === current));
      button.addEventListener("click", () => {
        for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
        choose(value);
      });
      group.append(button);
    }
    return group;
  }

  function toolbar(groups) {
    const filter = make("input");
    filter.type = "search";
    filter.placeholder = "Filter metrics";
    filter.setAttribute("aria-label", "Filter metrics by name");
    filter.addEventListener("input", () => showOnly(groups, filter.value));
    const reset = make("button", "plain", "Reset zoom");
    reset.type = "button";
    reset.disabled = true;
    reset.addEventListener("click", () => stage.reset());
    stage.listeners.push(() => { reset.disabled = !stage.zoom.step && !stage.zoom.time; });
    const bar = make("div", "toolbar", filter,
      choice("Horizontal axis", [["step", "Step"], ["time", "Time"]], stage.x, (x) => { stage.x = x; stage.changed("style"); }),
      choice("Vertical axis", [["linear", "Linear"], ["log", "Log"]], "linear", (y) => { stage.log = y === "log"; stage.changed("style"); }),
      reset, legend());
    new IntersectionObserver(([entry]) => bar.classList.toggle("stuck", entry.intersectionRatio < 1), { threshold: [1], rootMargin: "-1px 0px 0px 0px" }).observe(bar);
    return bar;
  }

  function legend() {
    const names = { attempt: "Attempt start", decision: "Decision", alert: "Alert", gap: "Gap" };
    const buttons = ["attempt", "decision", "alert", "gap"]
      .filter((kind) => report.marks.some((mark) => mark.kind === kind))
      .map((kind) => {
        const button = make("button", "", make("span", `swatch ${kind}`), names[kind]);
        button.type = "button";
        button.setAttribute("aria-pressed", "true");
        button.addEventListener("click", () => {
          const hide = !stage.hidden.has(kind);
          hide ? stage.hidden.add(kind) : stage.hidden.delete(kind);
          button.setAttribute("aria-pressed", String(!hide));
          stage.changed("style");
        });
        return button;
      });
    return make("div", "marks-legend", ...buttons);
  }

  function showOnly(groups, text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { element, members } of groups) {
      let any = false;
      for (const plot of members) {
        const match = words.every((word) => plot.metric.name.toLowerCase().includes(word));
        plot.card.hidden = !match;
        any ||= match;
        found += match;
      }
      element.hidden = !any;
    }
    document.getElementById("none-found").hidden = found > 0;
  }

  function metrics() {
    if (!plots.length) return section("Metrics", null, make("div", "empty", "No metrics were logged."));
    const byGroup = new Map();
    for (const plot of plots) byGroup.set(plot.metric.group, [...(byGroup.get(plot.metric.group) ?? []), plot]);
    const groups = [...byGroup].sort(([a], [b]) => rank(a) - rank(b) || a.localeCompare(b)).map(([name, members]) => {
      const summary = make("summary", "", name || "general", make("span", "count", number(members.length)));
      const element = make("details", "group", summary, make("div", "plots", ...members.map((plot) => plot.card)));
      element.open = true;
      return { element, members };
    });
    const none = make("div", "empty", "No metric has such a name.");
    none.id = "none-found";
    none.hidden = true;
    const points = report.metrics.reduce((sum, metric) => sum + metric.lines.reduce((all, line) => all + line.logged, 0), 0);
    const replaced = report.metrics.some((metric) => metric.lines.some((line) => line.superseded));
    const count = `${number(plots.length)} with ${number(points)} values`;
    return section("Metrics", count, toolbar(groups), ...groups.map(({ element }) => element), none,
      make("p", "aside", "Drag across a plot to zoom, double-click to reset.", replaced ? " Grey lines are what a later attempt superseded." : ""));
  }

  const rank = (group) => group === "" ? 0 : group === "system" ? 2 : 1;

  function attempts() {
    if (!report.attempts.length) return section("Attempts", null, make("div", "empty", "No attempt left a trace."));
    const end = (row) => row.ended ? moment(row.ended) : row.outcome === "running" ? "not yet" : row.last_seen ? `last seen ${moment(row.last_seen)}` : "unknown";
    return section("Attempts", number(report.attempts.length), table([
      ["", "tight right", (row) => String(row.number)],
      ["Outcome", "tight", (row) => make("span", `state ${row.outcome}`, row.outcome)],
      ["Started", "tight named", (row) => moment(row.started)],
      ["Ended", "tight named", end],
      ["Took", "tight right", (row) => Format.duration(Math.max(0, (row.ended ?? row.last_seen ?? row.started) - row.started))],
      ["Resumed from step", "tight right", (row) => row.resumed_from_step == null ? "" : number(row.resumed_from_step)],
      ["", "soft", (row) => row.story],
    ], report.attempts));
  }

  function marks() {
    const rows = report.marks;
    if (!rows.length) return "";
    const note = report.marks_left_out ? make("p", "aside", `${number(report.marks_left_out)} earlier ones of the same kinds are left out.`) : "";
    return section("Timeline", number(rows.length), table([
      ["When", "tight", (row) => when(row.time)],
      ["Step", "tight right", atStep],
      ["Attempt", "tight right", (row) => String(row.attempt)],
      ["What", "tight", (row) => make("span", "", make("span", `swatch ${row.kind}`), row.label)],
      ["By", "tight", (row) => row.by],
      ["", "soft", (row) => row.detail],
    ], rows), note);
  }

  /** Notes that are shown, newest last, or nothing when there are none and `empty` is not given. */
  function notes(title, latest, columns, empty = "") {
    const { total, items } = latest;
    if (!total) return empty ? section(title, null, make("div", "empty", empty)) : "";
    const count = items.length < total ? `last ${number(items.length)} of ${number(total)}` : number(total);
    return section(title, count, table([
      ["When", "tight", (row) => when(row.time)],
      ["Step", "tight right", atStep],
      ...columns,
    ], items));
  }

  const level = ["Level", "tight", (row) => make("span", `level-${row.level.replace(/\W/g, "")}`, row.level)];

  function saved() {
    if (!report.saved.length) return "";
    const count = report.saved_left_out ? `last ${number(report.saved.length)} of ${number(report.saved.length + report.saved_left_out)}` : number(report.saved.length);
    return section("Checkpoints and artifacts", count, table([
      ["When", "tight", (row) => when(row.time)],
      ["Step", "tight right", atStep],
      ["Kind", "tight", (row) => row.kind],
      ["Name", "", (row) => row.name],
      ["Path", "soft", (row) => make("span", "mono", row.path)],
      ["", "soft", (row) => row.detail],
    ], report.saved));
  }

  function footer() {
    const said = [`Written ${moment(report.written)} from the run's journal.`];
    if (report.damaged) said.push(`${number(report.damaged)} damaged journal ${report.damaged === 1 ? "line was" : "lines were"} left out.`);
    if (report.elsewhere.length) said.push(`The journal also holds ${report.elsewhere.map(([what, count]) => `${count} ${what}`).join(" and ")}, not shown here.`);
    said.push("Plots: uPlot, © Leon Sorokin, MIT licence.");
    return make("footer", "", said.join(" "));
  }

  page.replaceChildren(
    head(), metrics(), attempts(), marks(),
    notes("Alerts", report.alerts, [level, ["What", "", (row) => row.title], ["", "soft", (row) => row.text]]),
    notes("Messages", report.messages, [level, ["Message", "", (row) => row.text]], "No messages were logged."),
    notes("Texts", report.texts, [["Key", "tight", (row) => row.title], ["Text", "pre", (row) => row.text]]),
    saved(),
    make("div", "columns", ...[pairs("Configuration", report.config), pairs("Summary", report.summary), pairs("Environment", report.environment)].filter(Boolean)),
    notes("Console", report.console, [["Text", "pre", (row) => row.text]]),
    footer(),
  );

  const byCard = new Map(plots.map((plot) => [plot.card, plot]));
  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) isIntersecting ? byCard.get(target).show() : byCard.get(target).hide();
  }, { rootMargin: "500px 0px" });
  const size = new ResizeObserver((entries) => { for (const { target } of entries) byCard.get(target).resize(); });
  for (const plot of plots) {
    sight.observe(plot.card);
    size.observe(plot.card);
  }
  stage.listeners.push((what) => {
    for (const plot of plots) {
      if (what === "style") { plot.chart?.destroy(); plot.chart = null; }
      plot.draw();
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => stage.changed("style"));
  addEventListener("beforeprint", () => plots.forEach((plot) => plot.show()));
})();
