// Draws the charts of a report from the JSON beside each canvas, and again when the colour scheme
// changes; tells the value of a heat map's cell under the pointer.
(() => {
  "use strict";
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (i) => style(`--series-${(i % 8) + 1}`);
  const number = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  const exact = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
  const tick = (v) =>
    Number.isInteger(v) && Math.abs(v) < 1e5 ? v.toLocaleString("en") : number.format(v);
  const data = (figure) => JSON.parse(figure.querySelector("script").textContent);

  // On a logarithmic axis: the x of the points where these are few, else 1, 2 and 5 of each decade.
  const pickTicks = (points = null) => (scale) => {
    const leading = (v) => Math.round(v / 10 ** Math.floor(Math.log10(v) + 1e-9));
    const rounds = scale.ticks.filter((tick) => [1, 2, 5].includes(leading(tick.value)));
    scale.ticks = points && points.length <= 16 ? points.map((value) => ({ value })) : rounds;
  };
  const logarithmicX = (chart) => {
    const all = chart.series.flatMap((series) => series.points.map(([x]) => x));
    const points = [...new Set(all)].sort((a, b) => a - b);
    return { min: points[0], max: points.at(-1), afterBuildTicks: pickTicks(points) };
  };

  const axis = (title, logarithmic, extra) => ({
    type: logarithmic ? "logarithmic" : "linear",
    title: { display: title !== "", text: title, color: style("--soft") },
    ticks: { color: style("--soft"), maxRotation: 0, callback: tick },
    grid: { color: style("--line"), borderColor: style("--line") },
    ...(logarithmic ? { afterBuildTicks: pickTicks() } : {}),
    ...extra,
  });

  const lineDatasets = (chart) =>
    chart.series.map((series, i) => ({
      label: series.name,
      data: series.points.map(([x, y]) => ({ x, y })),
      borderColor: colour(i),
      backgroundColor: colour(i),
      borderDash: i < 8 ? [] : [6, 4],
      borderWidth: 2,
      pointRadius: series.points.length > 40 ? 0 : 3,
      pointHitRadius: 8,
      clip: 6,
    }));

  const barDatasets = (chart) =>
    chart.series.map((series, i) => ({
      label: series.name,
      data: series.values,
      backgroundColor: colour(i),
      borderRadius: chart.stacked ? 0 : 3,
      maxBarThickness: 48,
      stack: chart.stacked ? "all" : undefined,
    }));

  // A long name in several lines, broken behind commas and colons.
  const lines = (name) => (name.length <= 16 ? name : name.split(/(?<=[,:])/));

  const config = (chart) => {
    const line = chart.type === "line";
    const groups = { ...axis("", false, { stacked: chart.stacked }), type: "category" };
    groups.ticks = { color: style("--soft"), autoSkip: chart.groups?.length > 24, maxRotation: 0 };
    groups.grid = { display: false };
    return {
      type: chart.type,
      data: { labels: chart.groups?.map(lines), datasets: line ? lineDatasets(chart) : barDatasets(chart) },
      options: {
        animation: false,
        maintainAspectRatio: false,
        parsing: line ? false : undefined,
        interaction: { mode: line ? "nearest" : "index", axis: "x", intersect: false },
        scales: {
          x: line
            ? axis(chart.x_label, chart.x_logarithmic, chart.x_logarithmic ? logarithmicX(chart) : {})
            : groups,
          y: axis(chart.y_label, chart.y_logarithmic, {
            beginAtZero: !line || chart.y_from_zero,
            stacked: chart.stacked,
          }),
        },
        plugins: {
          decimation: { enabled: line && !chart.x_logarithmic, algorithm: "min-max" },
          legend: {
            display: chart.series.length > 1,
            align: "start",
            labels: { color: style("--ink"), boxWidth: 12, boxHeight: 12 },
          },
          tooltip: {
            callbacks: {
              label: (item) => `${item.dataset.label}: ${exact.format(item.parsed.y)}`,
            },
          },
        },
      },
    };
  };

  const charts = [];
  const draw = () => {
    charts.splice(0).forEach((chart) => chart.destroy());
    if (typeof Chart === "undefined") return;
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    document.querySelectorAll("figure.chart").forEach((figure) => {
      charts.push(new Chart(figure.querySelector("canvas"), config(data(figure))));
    });
  };

  document.querySelectorAll("figure.heat-map").forEach((figure) => {
    const map = data(figure);
    const cells = figure.querySelector(".heat svg");
    const output = figure.querySelector("output");
    cells.addEventListener("pointermove", (event) => {
      const box = cells.getBoundingClientRect();
      const at = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
      const row = at((event.clientY - box.top) / box.height, map.rows.length);
      const column = at((event.clientX - box.left) / box.width, map.columns.length);
      const value = map.values[row * map.columns.length + column];
      output.textContent =
        `${map.row_label} ${map.rows[row]}, ${map.column_label} ${map.columns[column]}: ` +
        (value === null ? "none" : exact.format(value));
    });
    cells.addEventListener("pointerleave", () => (output.textContent = ""));
  });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
