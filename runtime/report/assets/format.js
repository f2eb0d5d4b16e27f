"use strict";

/* Numbers and durations as a report shows them. */
const Format = (() => {
  function number(value) {
    if (value == null || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e7 || size < 1e-4)) return value.toExponential(3).replace("e+", "e");
    if (Number.isInteger(value)) return value.toLocaleString("en");
    return size >= 1000 ? value.toLocaleString("en", { maximumSignificantDigits: 6 }) : String(Number(value.toPrecision(4)));
  }

  function tick(value) {
    const size = Math.abs(value);
    for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (size >= unit * (unit === 1e3 ? 10 : 1)) return `${Number((value / unit).toPrecision(6))}${letter}`;
    }
    if (size !== 0 && size < 1e-3) return value.toExponential(1).replace(".0e", "e");
    return String(Number(value.toPrecision(6)));
  }

  function duration(seconds) {
    const sign = seconds < 0 ? "−" : "";
    let rest = Math.abs(seconds);
    if (rest < 1 && rest > 0) return `${sign}${Number((rest * 1000).toPrecision(3))} ms`;
    if (rest < 60) return `${sign}${Number(rest.toFixed(1))} s`;
    rest = Math.round(rest);
    const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]]
      .map(([unit, letter]) => { const n = Math.floor(rest / unit); rest -= n * unit; return n ? `${n}${letter}` : ""; })
      .filter(Boolean);
    return sign + parts.slice(0, 2).join(" ");
  }

  const position = (axis, value) => axis === "step" ? `step ${Math.round(value).toLocaleString("en")}` : duration(value);

  return { number, tick, duration, position };
})();
