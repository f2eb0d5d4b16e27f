"use strict";

/** What all plots share. `changed` is called with "zoom" or "style". */
class Stage {
  constructor(report) {
    this.marks = report.marks.map((mark) => ({ ...mark, at: { step: mark.step, time: mark.time - report.origin } }));
    this.x = "step";
    this.log = false;
    this.hidden = new Set();
    this.zoom = { step: null, time: null };
    this.listeners = [];
    this.extent = this.measure(report);
  }

  measure(report) {
    const extent = { step: [Infinity, -Infinity], time: [Infinity, -Infinity] };
    const widen = (axis, value) => {
      if (value == null || !Number.isFinite(value)) return;
      extent[axis] = [Math.min(extent[axis][0], value), Math.max(extent[axis][1], value)];
    };
    for (const { lines, by_step } of report.metrics) {
      for (const line of lines) {
        if (by_step) line.steps.forEach((step) => widen("step", step));
        line.times.forEach((time) => widen("time", time - report.origin));
      }
    }
    for (const mark of this.marks) {
      widen("time", mark.at.time);
      if (mark.kind === "attempt") widen("step", mark.at.step);
    }
    for (const axis of ["step", "time"]) {
      let [low, high] = extent[axis];
      if (!(low <= high)) [low, high] = [0, 1];
      const margin = (high - low || 1) * 0.012;
      extent[axis] = [low - margin, high + margin];
    }
    return extent;
  }

  window(axis) { return this.zoom[axis] ?? this.extent[axis]; }

  zoomTo(axis, range) {
    this.zoom[axis] = range;
    this.changed("zoom");
  }

  reset() {
    this.zoom = { step: null, time: null };
    this.changed("zoom");
  }

  changed(what) { this.listeners.forEach((listener) => listener(what)); }
}
