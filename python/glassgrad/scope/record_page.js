// Draws DATA, what Record.as_dict() gives, one sample at a time. No library: paths, texts and a scale are all it takes.
const $ = (id) => document.getElementById(id);
const layers = Object.keys(DATA.layers), parameters = Object.keys(DATA.parameters), count = DATA.steps.length;
const COLOURS = ["var(--cold)", "var(--hot)", "var(--good)", "#8a6d00", "#7a4fb0", "var(--ink)"];
let at = 0;

const finite = (values) => values.filter((v) => v !== null && v !== undefined && isFinite(v));
const show = (x) => x === 0 || (Math.abs(x) >= 0.001 && Math.abs(x) < 1e5) ? String(+x.toPrecision(3)) : x.toExponential(1);

const power = (t) => (Number.isInteger(t) ? "10" + String(t).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]) : show(10 ** t));

function ticks(low, high) {
  const raw = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * unit).find((s) => s >= raw);
  const found = [];
  for (let t = Math.ceil(low / step) * step; t <= high + 1e-9; t += step) found.push(+t.toFixed(10));
  return found;
}

// A frame with axes: lines are {points: [[x, y]...], colour, dash, dots, name, faint}. y may be null: a gap.
function chart(id, lines, { xlabel, ylabel, log = false, level, xticks, mark, zero = false, label }) {
  const named = lines.filter((l) => l.name);
  const W = 460, L = 54, R = 12, T = named.length ? 26 + 16 * Math.floor((named.length - 1) / 3) : 10, B = 40, H = 250 + T;
  const f = (y) => (log ? (y > 0 ? Math.log10(y) : null) : y);
  const all = lines.flatMap((l) => l.points).map(([x, y]) => [x, y === null || y === undefined ? null : f(y)]).filter(([, y]) => y !== null && isFinite(y));
  if (!all.length) { $(id).innerHTML = "<p class=note>nothing to show</p>"; return; }
  let [x0, x1] = [Math.min(...all.map((p) => p[0])), Math.max(...all.map((p) => p[0]))];
  let [y0, y1] = [Math.min(...all.map((p) => p[1]), ...(level === undefined ? [] : [level]), ...(zero ? [0] : [])), Math.max(...all.map((p) => p[1]), ...(level === undefined ? [] : [level]))];
  if (x0 === x1) { x0 -= 1; x1 += 1; }
  const pad = Math.max((y1 - y0) * 0.07, 1e-9, y0 === y1 ? 1 : 0); y0 -= zero ? 0 : pad; y1 += pad;
  const X = (x) => L + ((x - x0) / (x1 - x0)) * (W - L - R), Y = (y) => H - B - ((y - y0) / (y1 - y0)) * (H - T - B);
  const out = [`<svg role="img" aria-label="${label}" viewBox="0 0 ${W} ${H}" width="100%">`];
  let ys = ticks(y0, y1);
  if (log) {
    const decades = []; for (let k = Math.ceil(y0); k <= y1; k++) decades.push(k);
    const fine = []; for (let k = Math.floor(y0); k <= y1; k++) for (const m of [1, 2, 5]) fine.push(k + Math.log10(m));
    ys = decades.length > 1 ? decades.filter((k) => k % Math.ceil(decades.length / 8) === 0) : fine.filter((t) => t >= y0 && t <= y1);
    if (ys.length < 2) ys = ticks(10 ** y0, 10 ** y1).map(Math.log10);
  }
  for (const t of ys) out.push(`<line x1="${L}" x2="${W - R}" y1="${Y(t)}" y2="${Y(t)}" stroke="var(--grid)"/><text x="${L - 6}" y="${Y(t) + 4}" text-anchor="end">${log ? power(t) : show(t)}</text>`);
  const xs = xticks || ticks(x0, x1).map((t) => [t, show(t)]), every = Math.ceil(xs.length / 9);
  xs.forEach(([t, text], i) => { if (i % every === 0) out.push(`<text x="${X(t)}" y="${H - B + 16}" text-anchor="middle">${text}</text>`); });
  out.push(`<text x="${(L + W - R) / 2}" y="${H - 6}" text-anchor="middle">${xlabel}</text><text transform="translate(12 ${(H - B) / 2}) rotate(-90)" text-anchor="middle">${ylabel}</text>`);
  if (mark !== undefined) out.push(`<line x1="${X(mark)}" x2="${X(mark)}" y1="${T}" y2="${H - B}" stroke="var(--muted)" stroke-dasharray="2 3"/>`);
  if (level !== undefined) out.push(`<line x1="${L}" x2="${W - R}" y1="${Y(level)}" y2="${Y(level)}" stroke="var(--good)" stroke-width="1.6" stroke-dasharray="6 4"/>`);
  for (const l of lines) {
    let d = "", pen = "M";
    for (const [x, y] of l.points) {
      const v = y === null || y === undefined ? null : f(y);
      if (v === null || !isFinite(v)) { pen = "M"; continue; }
      d += `${pen}${X(x).toFixed(1)} ${Y(v).toFixed(1)}`; pen = "L";
      if (l.dots) out.push(`<circle cx="${X(x).toFixed(1)}" cy="${Y(v).toFixed(1)}" r="3.2" fill="${l.colour}"><title>${show(y)}</title></circle>`);
    }
    if (!l.scatter) out.push(`<path d="${d}" fill="none" stroke="${l.colour}" stroke-width="1.6" ${l.dash ? `stroke-dasharray="${l.dash}"` : ""} opacity="${l.faint ? 0.22 : 1}"/>`);
  }
  named.forEach((l, i) => {
    const x = L + (i % 3) * 134, y = 10 + 16 * Math.floor(i / 3);
    out.push(`<path d="M${x} ${y - 4}h16" stroke="${l.colour}" stroke-width="2" ${l.dash ? `stroke-dasharray="${l.dash}"` : ""}/><text class="name" x="${x + 21}" y="${y}">${l.name}</text>`);
  });
  $(id).innerHTML = out.join("") + "</svg>";
}

function ridges(id, column, low, high, xlabel, colour) {
  const have = (column || []).map((c, i) => [c, i]).filter(([c]) => c);
  if (!have.length) { $(id).innerHTML = "<p class=note>nothing to show</p>"; return; }
  const wanted = Math.min(14, have.length), rows = [];
  for (let k = 0; k < wanted; k++) rows.push(have[Math.round((k * (have.length - 1)) / Math.max(1, wanted - 1))]);
  const here = have.reduce((a, b) => (Math.abs(b[1] - at) < Math.abs(a[1] - at) ? b : a));
  if (!rows.includes(here)) rows[rows.reduce((b, r, i) => (Math.abs(r[1] - at) < Math.abs(rows[b][1] - at) ? i : b), 0)] = here;
  const W = 460, H = 260, L = 54, R = 12, B = 40, gap = (H - B - 44) / Math.max(1, rows.length - 1), n = here[0].length;
  const X = (i) => L + ((i + 0.5) / n) * (W - L - R);
  const out = [`<svg role="img" aria-label="histograms over time" viewBox="0 0 ${W} ${H}" width="100%">`];
  rows.forEach(([c, i], k) => {
    const inner = Math.max(...c.slice(1, -1), 1), base = 40 + k * gap;
    const path = c.map((v, j) => `L${X(j).toFixed(1)} ${(base - Math.min(v / inner, 1.1) * 32).toFixed(1)}`).join("");
    out.push(`<path d="M${X(0)} ${base}${path}L${X(n - 1)} ${base}Z" fill="${colour}" fill-opacity="${i === here[1] ? 0.75 : 0.22}" stroke="${colour}" stroke-width="${i === here[1] ? 2 : 1}"/><text x="${L - 6}" y="${base + 3}" text-anchor="end">${DATA.steps[i]}</text>`);
  });
  for (const t of ticks(low, high)) out.push(`<text x="${L + ((t - low) / (high - low)) * (W - L - R)}" y="${H - B + 20}" text-anchor="middle">${show(t)}</text>`);
  out.push(`<text x="${(L + W - R) / 2}" y="${H - 4}" text-anchor="middle">${xlabel}</text><text transform="translate(12 ${(H - B) / 2}) rotate(-90)" text-anchor="middle">step</text>`);
  $(id).innerHTML = out.join("") + "</svg>";
}

function draw() {
  const step = DATA.steps[at], layer = $("layer").value, c = DATA.layers[layer] || {};
  $("at").value = at; $("step").textContent = `step ${step}`;
  const have = layers.filter((n) => finite(DATA.layers[n].gradient_rms || []).length);
  const line = (i) => have.map((n, k) => [k, (DATA.layers[n].gradient_rms || [])[i] ?? null]);
  chart("thermometer", [...Array(count).keys()].filter((i) => i % Math.ceil(count / 12) === 0 && i !== at).map((i) => ({ points: line(i), colour: "var(--cold)", faint: true })).concat([{ points: line(at), colour: "var(--cold)", dots: true }]),
    { xlabel: "layer, the first on the left", ylabel: "gradient", log: true, xticks: have.map((n, k) => [k, n]), label: "gradient per layer" });
  const moved = parameters.filter((n) => DATA.shapes[n].length > 1 && finite(DATA.parameters[n].update_ratio || []).length).slice(0, 12);
  chart("updates", moved.map((n, k) => ({ points: (DATA.parameters[n].update_ratio || []).map((v, i) => [DATA.steps[i], v]), colour: COLOURS[k % 6], name: k < 6 ? n : "" })),
    { xlabel: "step", ylabel: "log10 update : data", level: -3, mark: step, label: "update to data ratio over steps" });
  ridges("outputs", c.histogram, -DATA.bins.span, DATA.bins.span, "output (what lies beyond is at the ends)", "var(--cold)");
  ridges("gradients", c.gradient_histogram, DATA.bins.decades[0], DATA.bins.decades[1], "log10 of |gradient|", "var(--hot)");
  const spectra = parameters.filter((n) => DATA.parameters[n].spectrum).slice(0, 6).flatMap((n, k) => {
    const known = DATA.parameters[n].spectrum.map((s, i) => [s, i]).filter(([s, i]) => s && i <= Math.max(at, 0));
    const points = (s) => s.map((v, i) => [i / Math.max(1, s.length - 1), v]);
    return known.length ? [{ points: points(known[0][0]), colour: COLOURS[k], dash: "5 4", faint: known.length > 1 }, { points: points(known[known.length - 1][0]), colour: COLOURS[k], name: n }] : [];
  });
  chart("spectra", spectra, { xlabel: "from the largest to the smallest", ylabel: "singular value", zero: true, label: "singular values" });
  const norms = Object.keys(DATA.norms), name = norms.includes(layer) ? layer : norms[0], norm = DATA.norms[name];
  $("norm").hidden = !norm;
  if (norm) {
    const one = (key) => (norm[key] || [])[at] || [], bins = (key) => one(key).map((v, i) => [((i + 0.5) * 2 * DATA.bins.span) / DATA.bins.count - DATA.bins.span, v]);
    chart("normbins", [{ points: bins("before"), colour: COLOURS[1], dash: "5 3", name: "before" }, { points: bins("after"), colour: COLOURS[0], name: "after" }], { xlabel: "value", ylabel: "entries", zero: true, label: "values before and after batch norm" });
    const pairs = (a, b) => one(a).map((v, i) => [v, one(b)[i]]), all = finite([...one("batch_mean"), ...one("batch_std"), ...one("running_mean"), ...one("running_std")]);
    const ends = [Math.min(...all), Math.max(...all)];
    chart("normstat", [{ points: ends.map((v) => [v, v]), colour: "var(--muted)", dash: "4 4" }, { points: pairs("batch_mean", "running_mean"), colour: COLOURS[0], dots: true, scatter: true, name: "mean" }, { points: pairs("batch_std", "running_std"), colour: COLOURS[1], dots: true, scatter: true, name: "standard deviation" }],
      { xlabel: "of this batch, a dot per channel", ylabel: "running", label: "batch against running statistics" });
    [["term_dy", "dy / σ"], ["term_mean", "less: the mean of dy, / σ"], ["term_xhat", "less: x̂ · mean of dy x̂, / σ"]].forEach(([key, text], k) =>
      chart(key, [{ points: (norm[key] || []).map((v, i) => [DATA.steps[i], v]), colour: COLOURS[k], name: text }], { xlabel: "step", ylabel: "size", log: true, mark: step, label: text }));
    const mean = (v) => finite(v).reduce((a, b) => a + b, 0) / Math.max(1, finite(v).length);
    $("normnote").textContent = `${name}: what comes back is dy / σ, less its mean, less its part along x̂. Now the batch's standard deviation is ${show(mean(one("batch_std")))} on average, the running one ${show(mean(one("running_std")))}.`;
  }
  const said = [`Step ${step}`];
  if (DATA.losses[at] !== null && DATA.losses[at] !== undefined) said.push(`loss ${show(DATA.losses[at])}`);
  const sizes = finite(line(at).map((p) => p[1]));
  if (sizes.length) said.push(`gradient ${show(sizes[0])} at the first layer, ${show(sizes[sizes.length - 1])} at the last`);
  if ((c.saturated || [])[at] > 0) said.push(`${Math.round(100 * c.saturated[at])} % of ${layer} (${DATA.kinds[layer]}) hardly passes a gradient`);
  const bad = layers.reduce((sum, n) => sum + ((DATA.layers[n].nonfinite || [])[at] || 0), 0);
  if (bad) said.push(`${bad} outputs are NaN or infinite`);
  $("said").textContent = said.join(", ") + ".";
}

function go(i) { at = Math.min(count - 1, Math.max(0, i)); draw(); }
$("at").max = count - 1;
for (const n of layers) $("layer").add(new Option(`${n} (${DATA.kinds[n]})`, n));
const active = layers.filter((n) => /ReLU|Tanh|Sigmoid|GELU|SiLU/.test(DATA.kinds[n]));
$("layer").value = active[active.length >> 1] || layers[layers.length >> 1];
$("at").oninput = () => go(+$("at").value);
$("layer").onchange = draw;
$("back").onclick = () => go(at - 1);
$("next").onclick = () => go(at + 1);
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "SELECT" || event.target.type === "range") return;
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: count - 1 }[event.key];
  if (to !== undefined) { event.preventDefault(); go(to); }
});
go(0);
