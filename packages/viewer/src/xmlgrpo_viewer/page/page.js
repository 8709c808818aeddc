"use strict";
// Draws the charts and lists the completions.  Whatever a model wrote is only ever set as text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const faint = (hex) => `${hex}2e`;
  const plots = [];

  function shown(value, share) {
    if (value === null || value === undefined) return "--";
    return share ? `${(100 * value).toFixed(1)}%` : String(Number(value.toPrecision(4)));
  }

  function options(chart, width) {
    const series = [{ label: chart.x, value: (_, v) => (v === null ? "--" : String(v)) }];
    const columns = [chart.xs];
    const bands = [];
    const few = chart.xs.length <= 40;
    chart.lines.forEach((line, n) => {
      const stroke = line.heavy ? colour("--text") : colour(`--line-${n % 6}`);
      const own = line.own;
      series.push({
        label: line.label,
        stroke,
        width: line.heavy ? 2.2 : 1.6,
        points: { show: few && chart.kind === "line" },
        spanGaps: true,
        dash: n > 2 && chart.kind === "line" ? [5, 3] : undefined,  // what lies under it is seen
        paths: chart.kind === "bars" ? uPlot.paths.stepped({ align: 1 }) : undefined,
        value: (_, v, __, at) => shown(own && at !== null ? own[at] : v, chart.share),
      });
      columns.push(line.values);
      const top = columns.length - 1;
      if (chart.kind === "stack") {
        if (n > 0) bands.push({ series: [top, top - 1], fill: faint(stroke) });
        else series[top].fill = faint(stroke);
      }
      if (line.low) {
        const hidden = { stroke: "transparent", points: { show: false }, spanGaps: true, class: "hidden-row" };
        series.push({ ...hidden, label: `${line.label}, high` }, { ...hidden, label: `${line.label}, low` });
        columns.push(line.high, line.low);
        bands.push({ series: [columns.length - 2, columns.length - 1], fill: faint(stroke) });
      }
    });
    const axis = { stroke: colour("--text"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid") } };
    return [{
      width,
      height: 240,
      scales: { x: { time: false }, y: chart.share && chart.kind !== "bars" ? { range: [0, 1] } : chart.kind === "stack" ? { range: { min: { pad: 0, soft: 0, mode: 1 }, max: { pad: 0.1, mode: 0 } } } : {} },
      axes: [{ ...axis, incrs: whole }, { ...axis, size: 56, values: (_, ticks) => ticks.map((v) => shown(v, chart.share).replace(".0%", "%")) }],
      series,
      bands,
      cursor: { sync: chart.x === "step" ? { key: "steps" } : undefined },
    }, columns];
  }

  const whole = [...Array(8).keys()].flatMap((n) => [1, 2, 5].map((one) => one * 10 ** n));  // steps and tokens

  function draw() {
    plots.splice(0).forEach((plot) => plot.destroy());
    document.querySelectorAll(".plot").forEach((place) => {
      const chart = data.charts[Number(place.dataset.chart)];
      const [settings, columns] = options(chart, place.clientWidth);
      const plot = new uPlot(settings, columns, place);
      const newest = () => plot.setLegend({ idx: chart.xs.length - 1 }, false);
      setTimeout(newest);  // after the first drawing: the newest values, until a pointer names others
      plot.over.addEventListener("mouseleave", newest);
      plots.push(plot);
    });
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => plots.forEach((plot) => plot.setSize({ width: plot.root.parentElement.clientWidth, height: 240 })), 150);
  });

  // a page of a run that still trains reads itself again, unless somebody is reading something
  const seconds = Number(document.body.dataset.refresh || 0);
  const refresh = document.getElementById("refresh");
  const reading = () => { if (refresh) refresh.checked = false; };
  if (refresh) setInterval(() => refresh.checked && location.reload(), 1000 * seconds);
  document.addEventListener("toggle", reading, true);

  const form = document.getElementById("filter");
  if (!form) return;
  const page = 20;
  let found = [];
  let listed = 0;

  function element(name, text, kind) {
    const made = document.createElement(name);
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  function scores(row) {
    const said = (score) => (score === null ? "no opinion" : String(Number(score.toPrecision(4))));
    return data.rewards.map((name, n) => `${name} ${said(row.scores[n])}`).join(", ");
  }

  function article(row) {
    const made = document.createElement("article");
    const kind = row.outcome === "right" ? "good" : row.outcome === "wrong" ? "bad" : "odd";
    const head = element("p", `step ${row.step}, paid ${Number(row.pay.toPrecision(4))}: `, "note");
    const file = element("a", row.file);
    file.href = row.file;
    head.append(element("span", row.outcome + (row.note ? ` (${row.note})` : ""), kind), ", ", file);
    const asked = element("p", "");  // <bdi>: a text of any direction leaves what is around it in place
    const gold = element("b", "");
    gold.append(element("bdi", row.gold));
    asked.append(element("bdi", row.question), " (gold ", gold, ")");
    made.tabIndex = 0;
    made.setAttribute("aria-label", `${row.outcome}, step ${row.step}, paid ${Number(row.pay.toPrecision(4))}`);
    made.append(head, asked, element("pre", row.text), element("p", scores(row), "note"));
    return made;
  }

  const orders = {
    paid: (a, b) => (a.outcome !== "wrong") - (b.outcome !== "wrong") || b.pay - a.pay || b.step - a.step,
    new: (a, b) => b.step - a.step,
    old: (a, b) => a.step - b.step,
  };

  function more() {
    const list = document.getElementById("list");
    found.slice(listed, listed + page).forEach((row, n) => {
      const made = list.appendChild(article(row));
      made.setAttribute("aria-posinset", listed + n + 1);
      made.setAttribute("aria-setsize", found.length);
    });
    listed = Math.min(found.length, listed + page);
    document.getElementById("found").textContent = `${listed} of ${found.length} shown`;
    document.getElementById("more").hidden = listed === found.length;
  }

  function filter() {
    const value = (name) => form.elements[name].value;
    const number = (name, otherwise) => (value(name) === "" ? otherwise : Number(value(name)));
    const wanted = value("text").toLowerCase();
    const pay = (row) => (value("reward") === "" ? row.pay : row.scores[Number(value("reward"))] ?? NaN);
    const [least, most] = [number("least", -Infinity), number("most", Infinity)];
    const isAnyPay = value("least") === "" && value("most") === "";
    found = data.completions.filter((row) =>
      (!value("outcome") || row.outcome === value("outcome")) &&
      row.step >= number("first", 0) && row.step <= number("last", Infinity) &&
      (isAnyPay || (pay(row) >= least && pay(row) <= most)) &&
      (!wanted || row.text.toLowerCase().includes(wanted) || row.question.toLowerCase().includes(wanted)));
    found.sort(orders[value("order")]);
    listed = 0;
    document.getElementById("list").replaceChildren();
    more();
  }

  // the keys of a feed (WAI-ARIA practices): from one completion to the next, however many there are
  document.getElementById("list").addEventListener("keydown", (event) => {
    const here = event.target.closest("article");
    if (!here || !["PageDown", "PageUp"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "PageDown" && !here.nextElementSibling) more();
    const next = event.key === "PageDown" ? here.nextElementSibling : here.previousElementSibling;
    if (next) next.focus();
  });
  form.addEventListener("input", filter);
  form.addEventListener("input", reading);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("more").addEventListener("click", more);
  filter();
})();
