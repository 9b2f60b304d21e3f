// The script of scope.step_through's page. DATA.steps are in the order of forward; backward runs through them in reverse.
"use strict";

// ------------------------------------------------------------------------------------------------ the ops, on one number
// name: [value of the inputs, derivative by each input]. The derivative also gets the value y, as last argument.

const sigmoid = x => x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));

// 2/sqrt(pi) e^(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!: all terms have one sign, so nothing cancels. 1 from 6 on, in doubles.
function erf(x) {
  if (!(Math.abs(x) < 6)) return isNaN(x) ? x : Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) { term *= 2 * x * x / (2 * n + 1); sum += term; }
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
}

function halfEven(x) {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

const share = (wins, ties) => wins ? 1 : ties ? 0.5 : 0;
const same = [x => x, () => [1]];
const step = f => [f, () => [0]];
const K = Math.sqrt(2 / Math.PI);
const OPS = {
  add: [(a, b) => a + b, () => [1, 1]],
  sub: [(a, b) => a - b, () => [1, -1]],
  mul: [(a, b) => a * b, (a, b) => [b, a]],
  div: [(a, b) => a / b, (a, b) => [1 / b, -a / (b * b)]],
  pow: [(a, b) => a ** b, (a, b, y) => [b === 0 ? 0 : b * a ** (b - 1), a === 0 ? 0 : y * Math.log(a)]],
  maximum: [(a, b) => Math.max(a, b), (a, b) => [share(a > b, a === b), share(b > a, a === b)]],
  minimum: [(a, b) => Math.min(a, b), (a, b) => [share(a < b, a === b), share(b < a, a === b)]],
  where: [(mask, a, b) => mask ? a : b, mask => [0, mask ? 1 : 0, mask ? 0 : 1]],
  abs: [Math.abs, x => [Math.sign(x)]],
  neg: [x => -x, () => [-1]],
  exp: [Math.exp, (x, y) => [y]],
  log: [Math.log, x => [1 / x]],
  log1p: [Math.log1p, x => [1 / (x + 1)]],
  sqrt: [Math.sqrt, (x, y) => [1 / (2 * y)]],
  rsqrt: [x => 1 / Math.sqrt(x), (x, y) => [-0.5 * y * y * y]],
  square: [x => x * x, x => [2 * x]],
  reciprocal: [x => 1 / x, (x, y) => [-y * y]],
  sin: [Math.sin, x => [Math.cos(x)]],
  cos: [Math.cos, x => [-Math.sin(x)]],
  tanh: [Math.tanh, (x, y) => [1 - y * y]],
  sigmoid: [sigmoid, (x, y) => [y * (1 - y)]],
  sign: step(Math.sign), floor: step(Math.floor), ceil: step(Math.ceil), round: step(halfEven),
  erf: [erf, x => [2 / Math.sqrt(Math.PI) * Math.exp(-x * x)]],
  relu: [x => x > 0 || isNaN(x) ? x : 0, (x, y) => [y > 0 ? 1 : 0]],
  silu: [x => x * sigmoid(x), x => [sigmoid(x) * (1 + x * (1 - sigmoid(x)))]],
  softplus: [x => x > 20 ? x : Math.log1p(Math.exp(x)), x => [sigmoid(x)]],
  logsigmoid: [x => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x))), x => [sigmoid(-x)]],
  gelu: [x => x * 0.5 * (1 + erf(x * Math.SQRT1_2)),
         x => [0.5 * (1 + erf(x * Math.SQRT1_2)) + x * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI)]],
  gelu_tanh: [x => 0.5 * x * (1 + Math.tanh(K * (x + 0.044715 * x ** 3))), x => {
    const t = Math.tanh(K * (x + 0.044715 * x ** 3));
    return [0.5 * (1 + t) + 0.5 * x * (1 - t * t) * K * (1 + 3 * 0.044715 * x * x)];
  }],
  // Of one number these change the shape at most.
  sum: same, mean: same, prod: same, cumsum: same, amax: same, amin: same, clone: same, cast: same, reshape: same, expand: same,
  permute: same, sum_to_size: same, flip: same, logsumexp: same,
};

// ------------------------------------------------------------------------------------------------------------- the graph

const revive = x => typeof x === "string" ? Number(x) : x;  // JSON has no NaN
const STEPS = DATA.steps.map(s => ({...s, value: revive(s.value), gradient: revive(s.gradient), operands: s.operands.map(
  o => ({...o, value: revive(o.value), local: revive(o.local), sent: revive(o.sent)}))}));
const END = STEPS.length - 1;
const ROUND = DATA.single ? Math.fround : x => x;
const isNumber = x => typeof x === "number" || x === null;
const SCALAR = STEPS.every(s => isNumber(s.value) && isNumber(s.gradient));
const FORWARD = STEPS.map((s, i) => i).filter(i => STEPS[i].op);
const START = STEPS.map(s => s.value);

const whyFixed = () => {
  if (!SCALAR) return "This graph holds arrays, of which the page has no copy: their numbers stay as they were computed. "
    + "‖ ‖ is a norm, the root of the sum of squares. A strip shows means of equal parts of an array: blue below 0, red above.";
  const unknown = FORWARD.find(i => !OPS[STEPS[i].op]);
  if (unknown !== undefined) return `The page can't compute ${STEPS[unknown].op}: the numbers stay as they were computed.`;
  if (FORWARD.some(i => STEPS[i].operands.some(o => o.from === null && o.value === null)))
    return "A constant was not kept: build the graph under gg.autograd.detect_anomaly() to change inputs here.";
  return "";
};
const FIXED = whyFixed();

const argument = o => o.from === null ? o.value : STEPS[o.from].value;
const wants = o => o.from !== null && !STEPS[o.from].constant;  // a gradient goes there

function recompute() {
  for (const i of FORWARD) {
    const s = STEPS[i], args = s.operands.map(argument);
    s.value = ROUND(OPS[s.op][0](...args));
    const local = OPS[s.op][1](...args, s.value);
    s.operands.forEach((o, k) => { if (wants(o)) o.local = ROUND(local[k]); });
  }
  const right = run(order(false));
  STEPS.forEach((s, i) => { if (!s.constant) s.gradient = right.at(-1)[i]; });
  for (const i of FORWARD) for (const o of STEPS[i].operands) if (wants(o)) o.sent = ROUND(STEPS[i].gradient * o.local);
}

// The op that goes too early in the wrong order: the one that most ops use; its gradient comes in as many parts.
const USERS = STEPS.map((s, i) => FORWARD.filter(j => STEPS[j].operands.some(o => o.from === i)));
const users = i => USERS[i];
const CANDIDATES = FORWARD.filter(i => i !== END);
const EARLY = CANDIDATES.sort((a, b) => users(b).length - users(a).length || b - a)[0];

function order(wrong) {
  const right = [...FORWARD].reverse();
  if (!wrong) return right;
  const rest = right.filter(i => i !== EARLY);
  rest.splice(rest.indexOf(Math.min(...users(EARLY))), 0, EARLY);
  return rest;
}

// Gradients after each backward step, numbers only: [[per step], ...]. An op sends what it has when its turn comes, once.
function run(sequence) {
  let now = STEPS.map((s, i) => i === END ? 1 : null);
  const all = [now];
  for (const i of sequence) {
    now = [...now];
    for (const o of STEPS[i].operands)
      if (wants(o)) now[o.from] = ROUND((now[o.from] ?? 0) + ROUND((now[i] ?? 0) * o.local));
    all.push(now);
  }
  all[all.length - 1] = now.map((g, i) => g === null && !STEPS[i].constant ? 0 : g);
  return all;
}

// --------------------------------------------------------------------------------------------------------------- the page

const $ = id => document.getElementById(id);
const escape = text => String(text).replace(/[&<>"]/g, c => ({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}[c]));
const drawn = handle => [...document.querySelectorAll(`[data-${handle}]`)];  // once per orientation
const BOXES = STEPS.map((s, k) => drawn(`box="${k}"`));
const ARROWS = STEPS.map((s, k) => s.operands.filter(o => o.from !== null).map((o, n) => drawn(`arrow="${k}.${n}"`)));
let at = 0, wrong = false;

// As number() in trace.py: three digits, ties to the even one as Python rounds them, and a minus as wide as a plus.
function number(x) {
  if (!isFinite(x)) return isNaN(x) ? "nan" : x > 0 ? "inf" : "−inf";
  const plain = x === 0 || Math.abs(x) >= 1e-3 && Math.abs(x) < 1e5;
  if (/^\d\.\d[02468]50*e/.test(Math.abs(x).toExponential(40))) x *= 1 - Number.EPSILON;
  let text = plain ? x.toPrecision(3) : x.toExponential(2);
  if (plain && text.includes(".")) text = text.replace(/\.?0+(?=e|$)/, "");
  return text.replace(/e([+-])(\d)$/, "e$10$2").replace(/-/g, "−");
}
const show = x => x === null ? "?" : typeof x === "number" ? number(x) : x.size || "1";
const norm = x => x === null ? "" : typeof x === "number" ? number(x) : `‖${number(revive(x.norm))}‖`;
// What an op with gradient g sends along o: exact on numbers, a norm on arrays.
const sends = (o, g) => SCALAR ? number(g * o.local) : norm(o.sent);
const full = x => x === null ? "not kept" : typeof x === "number" ? number(x) : `a ${x.size} array of norm ${number(revive(x.norm))}`;
const called = i => STEPS[i].title;

const phases = () => [["start"], ...FORWARD.map(i => ["forward", i]), ["turn"], ...order(wrong).map(i => ["backward", i])];

function parts(i, until) {  // what ops have sent to i so far, in order
  const found = [];
  for (const j of until) for (const o of STEPS[j].operands) if (o.from === i) found.push([j, o]);
  return found;
}

function strip(x) {
  if (x === null || typeof x === "number" || !x.cells.length) return "";
  const cells = x.cells.map(revive), most = Math.max(...cells.map(Math.abs).filter(isFinite), 1e-300);
  const bars = cells.map((v, i) => `<rect x="${i}" width="1" height="1" fill="var(${v < 0 ? "--cold" : "--hot"})" opacity="${
    isFinite(v) ? (0.04 + 0.96 * Math.abs(v) / most).toFixed(2) : 1}"/>`).join("");
  const first = x.first.map(v => number(revive(v))).join(", ") + (x.more ? ", …" : "");
  return `<svg class="strip" viewBox="0 0 ${cells.length} 1" preserveAspectRatio="none" role="img" aria-label="${
    cells.length} means of the array, blue below 0, red above">${bars}</svg><span class="muted">${first}</span>`;
}

function render() {
  const list = phases(), [phase, i] = list[at];
  const turn = 1 + FORWARD.length, backward = at > turn ? order(wrong).slice(0, at - turn) : [], done = new Set(backward);
  const computed = new Set(STEPS.map((s, k) => k).filter(k => !STEPS[k].op || k <= (FORWARD[at - 1] ?? (at ? END : -1))));
  const history = SCALAR ? run(order(wrong)) : null;
  const gradients = k => {  // as far as they are known
    if (at < turn) return null;
    if (history) return history[backward.length][k];
    const arrived = parts(k, backward), all = parts(k, FORWARD).length;  // of arrays, what arrived in part is known when it is one
    return arrived.length === all ? STEPS[k].gradient : arrived.length === 1 ? arrived[0][1].sent : null;
  };
  const finals = SCALAR ? run(order(false)).at(-1) : null;
  const incomplete = k => phase !== "start" && at >= turn && k !== END && users(k).some(j => !done.has(j));

  document.body.classList.toggle("back", at >= turn);
  for (const [k, s] of STEPS.entries()) {
    const g = gradients(k), over = at === list.length - 1;
    for (const box of BOXES[k]) {
      box.classList.toggle("off", !computed.has(k));
      box.classList.toggle("now", k === i || phase === "turn" && k === END);
      box.classList.toggle("got", phase === "backward" && STEPS[i].operands.some(o => o.from === k && wants(o)));
      box.classList.toggle("wrong", wrong && over && g !== null && finals !== null && g !== finals[k]);
      const value = box.querySelector(".value"), grad = box.querySelector(".grad");
      if (value) value.textContent = computed.has(k) ? show(s.value) : "";
      if (grad) grad.textContent = g === null ? "" : norm(g) + (incomplete(k) ? " …" : "");
    }
    let arrow = 0;
    for (const o of s.operands) {
      if (o.from === null) continue;
      for (const line of ARROWS[k][arrow]) {
        line.classList.toggle("off", !computed.has(k));
        line.classList.toggle("flow", k === i && (phase === "forward" || phase === "backward" && wants(o)));
        const text = line.querySelector("text");
        const back = k === i && phase === "backward" && wants(o) ? (line.closest(".narrow") ? "▴ " : "◂ ") : "";
        if (text) text.textContent = computed.has(k) && typeof o.local === "number" ? `${back}×${number(o.local)}` : "";
      }
      arrow++;
    }
  }
  $("count").textContent = `Step ${at} of ${list.length - 1}${at ? at < turn ? ", forward" : at === turn ? ", turn" : ", backward" : ""}`;
  $("time").max = list.length - 1; $("time").value = at;
  $("time").setAttribute("aria-valuetext", $("count").textContent);
  $("first").disabled = $("back").disabled = at === 0;
  $("last").disabled = $("next").disabled = at === list.length - 1;
  $("says").textContent = sentence(phase, i, backward, gradients);
  $("verdict").textContent = wrong ? verdict(finals, history.at(-1), phase, i, history[backward.length]) : "";
  $("op").innerHTML = details(phase, phase === "turn" || phase === "start" ? END : i, backward, gradients);
  for (const box of BOXES[i ?? (phase === "turn" ? END : 0)])
    if (box.getClientRects().length) reveal(box);
}

function reveal(box) {  // scrolls the graph alone, never the page
  const frame = box.closest(".graph"), a = box.getBoundingClientRect(), b = frame.getBoundingClientRect();
  if (a.left < b.left || a.right > b.right) frame.scrollLeft += a.left - b.left - (b.width - a.width) / 2;
  if (a.top < b.top || a.bottom > b.bottom) frame.scrollTop += a.top - b.top - (b.height - a.height) / 2;
}

function sentence(phase, i, backward, gradients) {
  if (phase === "start") return "Start: the inputs have their values. Press Next, or the right arrow key, to run the graph forward.";
  if (phase === "turn") return `Turn round: how much does ${called(END)} change with ${called(END)}? By a factor of 1. That is the first gradient.`;
  const s = STEPS[i], names = s.operands.map(o => o.from === null ? full(o.value) : `${called(o.from)} (${full(argument(o))})`);
  const what = s.title === s.op ? s.op : `${s.title}, ${s.op}`;
  if (phase === "forward") return `Forward: ${what} of ${names.join(" and ")}${s.title === s.op ? "" : ","} is ${full(s.value)}.`;
  const g = gradients(i), sent = s.operands.filter(wants).map(o => {
    const all = parts(o.from, backward), now = sends(o, g ?? 0);
    const head = SCALAR ? `${number(g ?? 0)} × ${number(o.local)} = ${now} to ${called(o.from)}` : `a gradient of norm ${now.replace(/‖/g, "")} to ${called(o.from)}`;
    return all.length > 1 ? `${head}, where gradients add up: ${sum(o.from, backward, gradients)}` : head;
  });
  const has = g === null ? "0, for nothing has arrived" : full(g);
  return `Backward: the gradient of ${called(i)} is ${has}. It sends ${[...new Set(sent)].join(", and ") || "nothing on: its inputs are constants"}.`;
}

function sum(k, backward, gradients) {  // "2 + 3.5 = 5.5"
  const found = parts(k, backward), total = gradients(k);
  if (!SCALAR) return `${found.map(([, o]) => norm(o.sent)).join(" + ")}, together ${norm(total)}`;
  const given = run(order(wrong)), sequence = order(wrong);
  const sent = found.map(([j, o]) => (given[sequence.indexOf(j)][j] ?? 0) * o.local);
  const before = sent.slice(0, -1);  // of many, those before the last as one number
  const words = (before.length > 3 ? [before.reduce((a, b) => a + b), sent.at(-1)] : sent).map(number);
  return `${words.join(" + ").replace(/\+ −/g, "− ")} = ${number(total)}`;
}

function verdict(right, got, phase, i, now) {
  const late = users(EARLY).filter(j => order(true).indexOf(j) > order(true).indexOf(EARLY)).map(called).join(" and ");
  if (phase === "backward" && i === EARLY)
    return `Too early: ${late} has not sent its part to ${called(EARLY)} yet. ${called(EARLY)} passes on ${number(now[EARLY] ?? 0)} of ${number(right[EARLY])}.`;
  const bad = STEPS.map((s, k) => k).filter(k => !STEPS[k].op && !STEPS[k].constant && right[k] !== got[k]);
  if (!bad.length) return "Wrong order, and by chance nothing changes: what came late was 0.";
  const list = bad.map(k => `${called(k)} gets ${number(got[k])}, right is ${number(right[k])}`).join("; ");
  return `Wrong order: ${called(EARLY)} sends before ${late} has sent to it. In the end ${list}.`;
}

function details(phase, i, backward, gradients) {
  const s = STEPS[i], g = gradients(i), done = phase === "backward";
  const rows = s.operands.map(o => {
    const name = o.from === null ? "constant" : escape(called(o.from)), to = o.from === null ? null : gradients(o.from);
    const many = o.from !== null && parts(o.from, backward).length > 1;
    return `<tr><td>${name}<td class="v">${show(argument(o))}${strip(argument(o))}<td>${typeof o.local === "number" ? number(o.local) : ""}<td class="g">${
      done && wants(o) ? sends(o, g ?? 0) : ""}<td class="g">${!done || !wants(o) ? "" : many ? sum(o.from, backward, gradients) : norm(to)}`;
  }).join("");
  const lesson = DATA.lessons[s.op] ?? {};
  const formulas = [lesson.forward && lesson.forward.replace(/^(?!\w+(\[[^\]]*\])? = )/, "y = "), lesson.derivative].filter(Boolean);
  return `<h2>${escape(s.title)}${s.op && s.title !== s.op ? ` <span class="muted">${escape(s.op)}</span>` : ""}</h2>
<p class="formula">${formulas.map(escape).join("<br>")}</p>
<p>value <b class="v">${phase === "start" ? "" : show(s.value)}</b> ${phase === "start" ? "" : strip(s.value)}</p>
${g === null ? "" : `<p>incoming gradient <b class="g">${norm(g)}</b> ${strip(g)}</p>`}
${rows && `<div class="scroll"><table><tr><th>input<th>value<th>local derivative<th>sends back<th>its gradient${rows}</table></div>`}
${s.line ? `<p class="muted">your line</p><pre tabindex="0">${escape(s.line)}</pre>` : ""}
${lesson.source ? `<p class="muted">${escape(lesson.where)}</p><pre tabindex="0">${escape(lesson.source)}</pre>` : ""}
${s.op && !s.line ? '<p class="muted">Build the graph under <code>gg.autograd.detect_anomaly()</code>, and your own line stands here too.</p>' : ""}`;
}

function inputs() {
  const leaves = STEPS.map((s, k) => k).filter(k => !STEPS[k].op);
  if (FIXED) { $("inputs").innerHTML = `<h2>Inputs</h2><p class="muted">${FIXED}</p>`; return; }
  const rows = leaves.map(k => {
    const v = START[k], reach = Math.max(2 * Math.abs(v), 1), name = escape(called(k));
    return `<div class="input"><label for="n${k}">${name}</label><input id="n${k}" type="number" step="any" value="${v}">
<input id="r${k}" type="range" min="${v - reach}" max="${v + reach}" step="${reach / 100}" value="${v}" aria-label="${name}, slider"></div>`;
  }).join("");
  $("inputs").innerHTML = `<h2>Inputs</h2><p class="muted">Change one: everything is computed again.</p>${rows}<button id="reset">Reset</button>`;
  const set = (k, text, from) => {
    const value = Number(text);
    if (text === "" || !isFinite(value)) return;
    STEPS[k].value = ROUND(value);
    for (const id of ["n", "r"]) if (id !== from) $(id + k).value = value;
    recompute(); render();
  };
  for (const k of leaves) for (const id of ["n", "r"]) $(id + k).addEventListener("input", e => set(k, e.target.value, id));
  $("reset").addEventListener("click", () => { for (const k of leaves) set(k, START[k], ""); });
}

const go = to => { at = Math.max(0, Math.min(to, phases().length - 1)); render(); };
$("first").addEventListener("click", () => go(0));
$("back").addEventListener("click", () => go(at - 1));
$("next").addEventListener("click", () => go(at + 1));
$("last").addEventListener("click", () => go(Infinity));
$("time").addEventListener("input", e => go(Number(e.target.value)));
$("wrong").addEventListener("click", () => {
  wrong = !wrong;
  $("wrong").setAttribute("aria-pressed", wrong);
  go(Math.max(at, 1 + FORWARD.length));
});
if (!SCALAR || EARLY === undefined) {
  $("wrong").disabled = true;
  $("wrong").title = SCALAR ? "One op has only one order." : "The page has no copy of the arrays to go wrong with.";
}
document.addEventListener("keydown", e => {
  const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: Infinity}[e.key];
  if (to === undefined || e.target.tagName === "INPUT" || e.ctrlKey || e.metaKey || e.altKey) return;
  e.preventDefault();
  go(to);
});
inputs();
render();
