"use strict";
(async () => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  if (!figures.length) return;
  const places = new Map(figures.map(f => [f.id, document.getElementById(f.id)]));
  const fail = text => places.forEach(p => {
    p.querySelector(".plot").innerHTML = '<p class="fail"></p>';
    p.querySelector(".fail").textContent = text;
  });

  // plotly.js lies in this file gzipped; the browser unpacks it.
  try {
    if (!("DecompressionStream" in window)) throw new Error("this browser is older than 2023");
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), c => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.appendChild(script);
  } catch (error) {
    return fail("The curves cannot be drawn: " + error.message + ".");
  }

  const colour = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const alpha = (hex, a) => {
    const h = hex.length === 4 ? hex.replace(/[0-9a-f]/gi, "$&$&") : hex;
    return `rgba(${[1, 3, 5].map(i => parseInt(h.slice(i, i + 2), 16)).join(",")},${a})`;
  };
  // plotly reads a little markup in labels; names from a log must not be read so.
  const plain = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const LANE = 22, PLOT = 250;

  function traces(f, log) {
    const tones = ["s0", "s1", "s2", "s3", "s4", "s5"].map(colour);
    const base = new Map();
    const toneOf = name => {
      const key = name.replace(/, running median$/, "");
      // training is always blue and validation orange, whatever else is shown
      if (!base.has(key)) {
        const fixed = key === "train/loss" ? 0 : key === "val/loss" ? 1 : undefined;
        const used = new Set(base.values());
        const start = f.id.endsWith("-loss") ? 2 : 0;
        let next = fixed;
        for (let i = start; next === undefined; i++) if (!used.has(i) || i > 30) next = i;
        base.set(key, next);
      }
      return tones[base.get(key) % tones.length];
    };
    const drawn = f.series.map(s => {
      let tone = s.role === "base" ? colour("muted") : s.role === "changed" ? tones[0] : toneOf(s.name);
      if (s.role === "raw") tone = alpha(tone, 0.32);
      const t = { x: s.x, y: s.y, name: plain(s.name), type: "scatter", mode: s.role === "points" ? "lines+markers" : "lines",
        line: { color: tone, width: s.role === "raw" ? 1 : s.role === "base" ? 1.5 : 2 }, marker: { color: tone, size: 5 },
        hovertemplate: "%{y:.5~g}", connectgaps: false };
      if (s.role === "raw") t.showlegend = false;
      if (s.role === "trend") { t.name = plain(s.name.replace(/, running median$/, "")); t.hoverinfo = "skip"; t.hovertemplate = undefined; }
      if (s.role === "base" || s.role === "changed") {
        t.legendgroup = s.role;
        t.showlegend = !f.series.slice(0, f.series.indexOf(s)).some(other => other.role === s.role);
        t.name = t.showlegend ? s.role : plain(s.name);
        t.hovertemplate = "%{y:.5~g}<extra>" + plain(s.name) + "</extra>";
      }
      return t;
    });
    const ys = f.series.flatMap(s => s.y).filter(y => !log || y > 0);
    const floor = ys.length ? ys.reduce((a, b) => Math.min(a, b)) : (log ? 1 : 0);
    f.bad.forEach(b => drawn.push({ x: b.x, y: b.x.map(() => floor), customdata: b.kind, name: plain(b.name) + " not finite",
      type: "scatter", mode: "markers", marker: { symbol: "x", size: 9, color: colour("error") },
      hovertemplate: "%{customdata}" }));
    return drawn;
  }

  function layout(f, log) {
    const ink = colour("ink"), muted = colour("muted"), shapes = [], notes = [];
    const xs = f.series.flatMap(s => s.x).concat(f.bad.flatMap(b => b.x));
    const first = xs.reduce((a, b) => Math.min(a, b), Infinity), last = xs.reduce((a, b) => Math.max(a, b), -Infinity);
    const width = Math.max(1, last - first);
    f.lanes.forEach((lane, i) => {
      const tone = colour(lane.severity === "error" || lane.severity === "warning" ? lane.severity : "note");
      const level = 5 + (f.lanes.length - 1 - i) * LANE;
      lane.spans.forEach(([a, b]) => {
        a = Math.max(a, first); b = Math.min(Math.max(b, a), last);
        const seen = Math.max(b, a + width * 0.004);
        if (lane.severity !== "note" && seen - a < 0.9 * width) shapes.push({ type: "rect", x0: a, x1: seen, y0: 0, y1: 1, yref: "paper", layer: "below",
          line: { width: 0 }, fillcolor: alpha(tone, 0.07) });
        shapes.push({ type: "rect", x0: a, x1: seen, yref: "paper", ysizemode: "pixel", yanchor: 1, y0: level, y1: level + 4,
          line: { width: 0 }, fillcolor: tone });
      });
      const start = Math.max(first, Math.min(...lane.spans.map(s => s[0])));
      const end = Math.min(last, Math.max(...lane.spans.map(s => s[1])));
      const right = start - first > 0.55 * width;
      notes.push({ x: right ? end : start, xanchor: right ? "right" : "left", y: 1, yref: "paper", yanchor: "bottom",
        yshift: level + 3, showarrow: false, font: { size: 12, color: tone },
        text: `<b>${lane.rank}</b> ${plain(lane.label)}`, captureevents: true, name: lane.target });
    });
    f.levels.forEach(l => {
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: l.y, y1: l.y, line: { color: muted, width: 1, dash: "dot" } });
      notes.push({ xref: "paper", x: 1, xanchor: "right", y: log ? Math.log10(l.y) : l.y, yanchor: "bottom", showarrow: false,
        text: plain(l.label), font: { size: 12, color: muted }, bgcolor: alpha(colour("surface"), 0.75) });
    });
    f.marks.forEach(m => {
      shapes.push({ type: "line", x0: m.x, x1: m.x, yref: "paper", y0: 0, y1: 1, line: { color: ink, width: 1, dash: "dash" } });
      notes.push({ x: m.x, xanchor: "left", y: 0, yref: "paper", yanchor: "bottom", showarrow: false, text: plain(m.label),
        font: { size: 12, color: ink } });
    });
    const legend = f.series.filter(s => s.role !== "raw").length + f.bad.length > 1;
    const large = f.series.some(s => s.y.some(y => Math.abs(y) >= 1000));
    const top = 14 + f.lanes.length * LANE, bottom = legend ? 84 : 48;
    const axis = { gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, tickfont: { color: muted, size: 12 } };
    return { height: PLOT + top + bottom, margin: { l: 58, r: 12, t: top, b: bottom }, shapes, annotations: notes,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "x unified", dragmode: "zoom",
      font: { family: getComputedStyle(document.body).fontFamily, color: ink, size: 13 }, showlegend: legend,
      legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom", font: { color: muted, size: 12.5 } },
      hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("line"), font: { color: ink } },
      xaxis: { ...axis, title: { text: "optimizer update", font: { color: muted, size: 12.5 }, standoff: 6 }, tickformat: ",d",
        range: [first - width * 0.01, last + width * 0.01], nticks: 8 },
      yaxis: { ...axis, type: log ? "log" : "linear", nticks: 6, range: log ? undefined : f.range || undefined,
        exponentformat: "e", tickformat: large && !log ? ",~r" : "" } };
  }

  const state = new Map();
  function draw(f) {
    const place = places.get(f.id), plot = place.querySelector(".plot"), log = state.get(f.id) ?? f.log;
    const lost = place.querySelector("[data-lost]");
    const below = log ? f.series.reduce((n, s) => n + s.y.filter(y => y <= 0).length, 0) : 0;
    lost.textContent = below + " points at or below zero cannot be shown on a log scale.";
    lost.classList.toggle("hidden", !below);
    const kept = plot.layout && plot.layout.xaxis.range, next = layout(f, log);
    if (kept) next.xaxis.range = kept;
    Plotly.react(plot, traces(f, log), next, { displayModeBar: false, responsive: true });
    if (plot.dataset.ready) return;
    plot.dataset.ready = "1";
    place.querySelector("[data-axis]").addEventListener("click", event => {
      state.set(f.id, !(state.get(f.id) ?? f.log));
      event.target.textContent = (state.get(f.id) ? "linear" : "log") + " scale";
      draw(f);
    });
    plot.on("plotly_clickannotation", event => { if (event.annotation.name) location.hash = event.annotation.name; });
    // One zoom for all charts of a run: what happened to the rate when the loss rose is one look.
    let own = false;
    plot.on("plotly_relayout", change => {
      if (own || !("xaxis.range[0]" in change || change["xaxis.autorange"])) return;
      const full = layout(f, log).xaxis.range;
      const range = change["xaxis.autorange"] ? full : [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      figures.filter(o => o.group === f.group).forEach(o => {
        const other = places.get(o.id).querySelector(".plot");
        if (!other.dataset.ready || (other === plot && !change["xaxis.autorange"])) return;
        other.dispatchEvent(new CustomEvent("quiet"));
        Plotly.relayout(other, { "xaxis.range": range.slice() });
      });
    });
    plot.addEventListener("quiet", () => { own = true; setTimeout(() => { own = false; }, 0); });
  }

  // A folder of many logs has many charts: each is drawn when it comes into view.
  const seen = new Set();
  const watch = new IntersectionObserver(entries => entries.forEach(entry => {
    if (!entry.isIntersecting || seen.has(entry.target.id)) return;
    seen.add(entry.target.id);
    draw(figures.find(f => f.id === entry.target.id));
  }), { rootMargin: "600px" });
  places.forEach(place => watch.observe(place));
  const redraw = () => figures.filter(f => seen.has(f.id)).forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => figures.forEach(f => { seen.add(f.id); draw(f); }));
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
