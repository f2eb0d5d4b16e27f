"use strict";

/* Plots of a report: unpacks lines when they come into view and draws them with uPlot.
 *
 * Every plot of one axis (step, or seconds since the run's start) shows the same window, so that a
 * mark stands at the same place in all of them. Zooming replaces the overview of a line by its
 * finer level once the window is narrow enough for that level to stay light.
 */
const Plots = (() => {
  const COLOURS = 6;
  const MARK_KINDS = ["gap", "decision", "alert", "attempt"];
  const MOST_DRAWN = 12_000;

  const unpacked = new WeakMap();

  /** Undo `runtime.report._columns`: base64, deflate, transposed doubles, first differences. */
  function unpack(packed) {
    if (!unpacked.has(packed)) unpacked.set(packed, inflate(packed));
    return unpacked.get(packed);
  }

  async function inflate({ count, data }) {
    const text = atob(data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const numbers = new Float64Array(count * 3);
    const view = new Uint8Array(numbers.buffer);
    for (let byte = 0, from = 0; byte < 8; byte++) {
      for (let to = byte; to < view.length; to += 8) view[to] = planes[from++];
    }
    const steps = numbers.subarray(0, count);
    const times = numbers.subarray(count, 2 * count);
    for (let i = 1; i < count; i++) {
      steps[i] += steps[i - 1];
      times[i] += times[i - 1];
    }
    for (let i = 0; i < count; i++) times[i] /= 1000;
    return { step: steps, time: times, values: numbers.subarray(2 * count) };
  }

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const TIME_STEPS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600,
    7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 2592000, 8640000, 31536000];

  /** One metric's card. It holds a chart only while it is near the screen. */
  class Plot {
    constructor(metric, stage, make) {
      this.metric = metric;
      this.stage = stage;
      this.chart = null;
      this.visible = false;
      this.turn = 0;
      this.strands = [];
      this.readout = make("div", "readout");
      this.canvas = make("div", "canvas");
      this.remarks = make("div", "remarks");
      this.tip = make("div", "tip");
      this.tip.hidden = true;
      this.make = make;
      const unit = [metric.unit, { minimize: "lower is better", maximize: "higher is better" }[metric.goal]];
      const title = make("div", "title", make("b", "", metric.name), make("span", "unit", unit.filter(Boolean).join(" · ")));
      this.card = make("article", "plot", title, this.readout, this.canvas, this.remarks, this.tip);
      this.card.dataset.metric = metric.name;
      this.rest();
    }

    get axis() { return this.metric.by_step ? this.stage.x : "time"; }

    /** Draw anew with the stage's settings; a later call overtakes an earlier one. */
    async draw() {
      const turn = ++this.turn;
      if (!this.visible) return;
      const { axis } = this;
      this.strands = this.stitch(axis);
      const table = await this.table(axis);
      if (turn !== this.turn || !this.visible) return;
      const log = this.stage.log && table.positive;
      this.remark(log, table);
      this.card.dataset.points = table.data[0].length;
      if (this.chart && this.style === `${axis} ${log}`) {
        this.chart.setData(table.data, true);
        return;
      }
      this.chart?.destroy();
      this.style = `${axis} ${log}`;
      this.chart = new uPlot(this.options(axis, log), table.data, this.canvas);
      this.allowTouch(this.chart);
    }

    show() {
      if (this.visible) return;
      this.visible = true;
      this.draw();
    }

    hide() {
      this.visible = false;
      this.chart?.destroy();
      this.chart = null;
      this.tip.hidden = true;
    }

    /** Over steps the attempts that count are one line; over time the pause between them shows. */
    stitch(axis) {
      const strands = [];
      for (const line of this.metric.lines) {
        const before = strands.findLast((strand) => strand.rank === line.rank && !strand.superseded);
        const follows = axis === "step" && !line.superseded && before?.lines.at(-1).steps[1] < line.steps[0];
        if (follows) before.lines.push(line);
        else strands.push({ rank: line.rank, superseded: line.superseded, lines: [line] });
      }
      return strands;
    }

    /** The strands over one axis, at the level that fits the window, as uPlot wants them. */
    async table(axis) {
      const numbers = { nonpositive: 0, positive: false };
      const tables = await Promise.all(this.strands.map(async ({ lines }) => {
        const parts = await Promise.all(lines.map((line) => this.points(line, axis)));
        return this.columns(parts, axis, numbers);
      }));
      if (this.stage.log && numbers.positive) tables.forEach((columns) => { columns[1] = columns[1].map((y) => y > 0 ? y : null); });
      return { ...numbers, data: tables.length === 1 ? tables[0] : uPlot.join(tables) };
    }

    async points(line, axis) {
      const overview = await unpack(line.overview);
      const [low, high] = this.stage.window(axis);
      if (!line.detail || !this.stage.zoom[axis]) return overview;
      const detail = await unpack(line.detail);
      let [from, to] = [0, 0];
      const xs = detail[axis];
      while (from < xs.length && xs[from] < low) from++;
      for (to = from; to < xs.length && xs[to] <= high;) to++;
      [from, to] = [Math.max(0, from - 1), Math.min(xs.length, to + 1)];
      if (to - from > MOST_DRAWN) return overview;
      return { [axis]: xs.subarray(from, to), values: detail.values.subarray(from, to) };
    }

    columns(parts, axis, numbers) {
      let xs = parts.flatMap((points) => Array.from(points[axis]));
      let ys = parts.flatMap((points) => Array.from(points.values, (value) => Number.isFinite(value) ? value : null));
      for (const y of ys) {
        if (y > 0) numbers.positive = true;
        else if (y !== null) numbers.nonpositive++;
      }
      if (xs.some((x, i) => i && x < xs[i - 1])) {
        const order = xs.map((_, i) => i).sort((a, b) => xs[a] - xs[b]);
        xs = order.map((i) => xs[i]);
        ys = order.map((i) => ys[i]);
      }
      return [xs, ys];
    }

    options(axis, log) {
      const { stage } = this;
      const font = `11.5px ${colour("--sans")}`;
      const look = () => ({
        font, stroke: () => colour("--faint"), grid: { stroke: () => colour("--grid"), width: 1 },
        ticks: { show: false, size: 0 },
      });
      return {
        width: Math.max(this.canvas.clientWidth, 120),
        height: this.canvas.clientHeight,
        padding: [14, 10, 0, 0],
        legend: { show: false },
        scales: {
          x: { time: false, range: () => stage.window(axis) },
          y: log ? { distr: 3 } : { range: (_, low, high) => low == null ? [0, 1] : uPlot.rangeNum(low, high, 0.08, true) },
        },
        axes: [
          { ...look(), size: 28, gap: 4, space: 70, ...(axis === "time" ? { incrs: TIME_STEPS } : { incrs: undefined }),
            values: (_, ticks) => ticks.map((tick) => axis === "time" ? Format.duration(tick) : Number.isInteger(tick) ? Format.tick(tick) : "") },
          { ...look(), gap: 4, space: 34, size: (_, values) => 14 + 6.4 * Math.max(3, ...(values ?? []).map((value) => value?.length ?? 0)),
            values: (_, ticks) => ticks.map((tick) => tick == null ? "" : Format.tick(tick)) },
        ],
        series: [{}, ...this.strands.map((strand) => this.series(strand))],
        cursor: {
          y: false,
          points: { size: 7, width: 0 },
          drag: { x: true, y: false, setScale: false, dist: 4 },
          bind: { dblclick: () => () => stage.reset() },
          dataIdx: (chart, series, index) => nearest(chart, series, index),
          sync: { key: `report-${axis}`, scales: ["x", null], filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
        },
        hooks: {
          setSelect: [(chart) => this.selected(chart, axis)],
          setCursor: [(chart) => this.pointed(chart, axis)],
          setScale: [(chart, key) => { if (key === "x") [this.card.dataset.from, this.card.dataset.to] = [chart.scales.x.min, chart.scales.x.max]; }],
          draw: [(chart) => this.drawMarks(chart, axis)],
        },
      };
    }

    series({ rank, superseded }) {
      const name = superseded ? "--superseded" : `--line-${rank % COLOURS}`;
      return {
        stroke: () => colour(name),
        width: superseded ? 1.2 : 1.6,
        points: { size: 5, fill: () => colour(name) },
      };
    }

    selected(chart, axis) {
      const { left, width } = chart.select;
      if (width < 4) return;
      const [low, high] = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
      chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      if (high > low) this.stage.zoomTo(axis, [low, high]);
    }

    /** Show the values under the cursor, and the marks beside it. */
    pointed(chart, axis) {
      const { left, idx, idxs } = chart.cursor;
      if (left == null || left < 0 || idx == null) { this.rest(); return; }
      const cells = [];
      this.strands.forEach((strand, i) => {
        const at = idxs[i + 1];
        const value = at == null ? null : chart.data[i + 1][at];
        if (value != null) cells.push(this.cell(strand, axis, chart.data[0][at], Format.number(value)));
      });
      this.readout.replaceChildren(this.make("span", "at", Format.position(axis, chart.posToVal(left, "x"))), ...cells.reverse());
      this.explain(chart, axis, left);
    }

    cell({ lines, rank, superseded }, axis, x, value) {
      const dot = this.make("i");
      dot.style.background = superseded ? "var(--superseded)" : `var(--line-${rank % COLOURS})`;
      const line = axis === "step" ? lines.findLast(({ steps }) => steps[0] <= x) ?? lines[0] : lines[0];
      const all = this.metric.lines;
      const label = [
        all.some((other) => other.attempt !== line.attempt) && `attempt ${line.attempt}`,
        all.some((other) => other.rank !== rank) && `rank ${rank}`,
        superseded && "superseded",
      ].filter(Boolean).join(", ");
      return this.make("span", superseded ? "dim" : "", dot, this.make("b", "", value), label && ` ${label}`);
    }

    explain(chart, axis, left) {
      const near = chart.cursor.event
        ? this.marksAt(chart, axis).filter(({ x }) => Math.abs(x - left) <= 5).map(({ mark }) => mark)
        : [];
      this.tip.hidden = near.length === 0;
      if (!near.length) return;
      const said = near.slice(-5).map((mark) => {
        const by = mark.by && ` by ${mark.by}`;
        return this.make("div", "", this.make("span", `swatch ${mark.kind}`), this.make("b", "", mark.label), by, mark.detail && `: ${mark.detail.slice(0, 300)}`);
      });
      if (near.length > 5) said.push(this.make("div", "", `and ${near.length - 5} more here`));
      this.tip.replaceChildren(...said);
      const box = chart.over.getBoundingClientRect();
      const card = this.card.getBoundingClientRect();
      const x = box.left - card.left + left;
      const right = x > card.width / 2;
      this.tip.style.left = right ? "auto" : `${x + 12}px`;
      this.tip.style.right = right ? `${card.width - x + 12}px` : "auto";
      this.tip.style.top = `${box.top - card.top + 12}px`;
    }

    /** Without a cursor: the last, lowest and highest value. */
    rest() {
      const { last, lowest, highest } = this.metric;
      const pair = (label, value) => this.make("span", "", `${label} `, this.make("b", "", Format.number(value)));
      this.readout.replaceChildren(...(highest == null ? [] : [pair("last", last), pair("min", lowest), pair("max", highest)]));
      this.tip.hidden = true;
    }

    remark(log, table) {
      const missing = this.metric.lines.reduce((sum, line) => sum + line.missing, 0);
      const said = [];
      if (missing) said.push(`${missing.toLocaleString("en")} NaN or infinite ${missing === 1 ? "value is a gap" : "values are gaps"} in the line`);
      if (log && table.nonpositive) said.push("zero and negative values are not on the logarithmic axis");
      if (this.stage.log && !log) said.push("no positive values, so the axis stays linear");
      if (!this.metric.by_step && this.stage.x === "step") said.push("shown over time: logged without steps");
      this.remarks.textContent = said.join(" · ");
    }

    marksAt(chart, axis) {
      const [low, high] = [chart.scales.x.min, chart.scales.x.max];
      const shown = [];
      for (const kind of MARK_KINDS) {
        if (this.stage.hidden.has(kind)) continue;
        for (const mark of this.stage.marks) {
          const at = mark.at[axis];
          if (mark.kind === kind && at != null && at >= low && at <= high) shown.push({ mark, x: chart.valToPos(at, "x") });
        }
      }
      return shown;
    }

    /** Whole device pixels in opaque colours, so that a thin line is neither blurred nor blended. */
    drawMarks(chart, axis) {
      const { ctx } = chart;
      const { top, height, left } = chart.bbox;
      const ratio = uPlot.pxRatio;
      const thick = Math.max(1, Math.round(ratio));
      const flag = Math.round(7 * ratio);
      ctx.save();
      const taken = new Set();
      for (const { mark, x } of this.marksAt(chart, axis)) {
        const px = Math.round(left + x * ratio);
        if (taken.has(`${mark.kind} ${px}`)) continue;
        taken.add(`${mark.kind} ${px}`);
        ctx.fillStyle = colour(`--${mark.kind}`);
        const dash = mark.kind === "attempt" ? height : Math.round(4 * ratio);
        for (let y = 0; y < height; y += 2 * dash) ctx.fillRect(px, top + y, thick, Math.min(dash, height - y));
        if (mark.kind === "attempt") this.flag(ctx, String(mark.attempt), px, top, ratio);
        else ctx.fillRect(px - Math.floor(flag / 2), top - flag, flag, flag);
      }
      ctx.restore();
    }

    /** The attempt's number on a tab above its line. */
    flag(ctx, text, px, top, ratio) {
      ctx.font = `600 ${10 * ratio}px ${colour("--sans")}`;
      const width = Math.round(ctx.measureText(text).width + 8 * ratio);
      const height = Math.round(13 * ratio);
      ctx.fillRect(px, top - height, width, height);
      ctx.fillStyle = colour("--card");
      ctx.textAlign = "left";
      ctx.textBaseline = "middle";
      ctx.fillText(text, px + 4 * ratio, top - height / 2 + 0.5 * ratio);
    }

    resize() {
      if (!this.chart) return;
      const [width, height] = [Math.max(this.canvas.clientWidth, 120), this.canvas.clientHeight];
      if (width !== this.chart.width || height !== this.chart.height) this.chart.setSize({ width, height });
    }

    /** Let a finger drawn sideways do what a mouse does; up and down still scrolls. */
    allowTouch(chart) {
      const send = (name, { clientX, clientY }) => {
        // uPlot ignores moves of no distance, which is what a made-up event has by default.
        const options = { bubbles: true, clientX, clientY, button: 0, movementX: 1, view: window };
        chart.over.dispatchEvent(new MouseEvent(name, options));
      };
      const handle = (name, act) => chart.over.addEventListener(name, (event) => {
        if (event.pointerType !== "mouse") act(event);
      });
      handle("pointerdown", (event) => { send("mousemove", event); send("mousedown", event); });
      handle("pointermove", (event) => send("mousemove", event));
      handle("pointerup", (event) => send("mouseup", event));
      handle("pointercancel", (event) => {
        chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        send("mouseup", event);
      });
    }
  }

  /** The point of a line closest to the cursor, or none within 12 pixels. */
  function nearest(chart, series, index) {
    const [xs, ys] = [chart.data[0], chart.data[series]];
    if (series === 0 || ys[index] != null) return index;
    const close = (i) => i >= 0 && i < xs.length && Math.abs(chart.valToPos(xs[i], "x") - chart.cursor.left) <= 12;
    for (let away = 1; ; away++) {
      const [before, after] = [close(index - away), close(index + away)];
      if (before && ys[index - away] != null) return index - away;
      if (after && ys[index + away] != null) return index + away;
      if (!before && !after) return null;
    }
  }

  return { Plot };
})();
