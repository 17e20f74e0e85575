"use strict";

/* Figures are drawn when they come near the window. The style sheet gives their texts the colours of the theme. */
{
  // CSS pixels: A4 and Letter within the margins of the style sheet, two figures of the usual height to a page
  const PAPER = { width: 680, height: 340, usual: 400 };
  const TYPES = {
    f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array, i2: Int16Array, u2: Uint16Array, i1: Int8Array,
    u1: Uint8Array,
  };
  const plots = [...document.querySelectorAll("[data-figure]")];
  const contentOf = (plot) => JSON.parse(document.getElementById("figure-" + plot.dataset.figure).textContent);

  const drawn = new Map(); // plot to the promise of its figure

  /* Plotly stands in the page as a text and is run when it is first needed, so that the page itself opens at once. */
  function loadPlotly() {
    if (window.Plotly) return;
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  }

  function draw(plot) {
    if (drawn.has(plot)) return;
    loadPlotly();
    const { data, layout } = contentOf(plot);
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger scrolls the page
    drawn.set(plot, Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false }));
  }

  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      watcher.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "600px 0px" });
  plots.forEach((plot) => watcher.observe(plot));
  if (plots.length) addEventListener("load", () => (window.requestIdleCallback ?? setTimeout)(loadPlotly));

  const heightOf = (plot) => parseInt(plot.style.minHeight, 10);
  const onPaper = (plot) => ({
    autosize: false, width: PAPER.width, height: heightOf(plot) === PAPER.usual ? PAPER.height : heightOf(plot),
  });
  const onScreen = (plot) => ({ autosize: true, width: null, height: heightOf(plot) });
  const resize = (sizeOf) => drawn.forEach((done, plot) => done.then(() => Plotly.relayout(plot, sizeOf(plot))));
  addEventListener("beforeprint", () => {
    plots.forEach(draw);
    resize(onPaper);
  });
  addEventListener("afterprint", () => resize(onScreen));

  /* The figure's data as rows: one a point, without the columns that say nothing. */
  function rowsOf(plot) {
    const { data, layout } = contentOf(plot);
    const parallel = data.find((trace) => trace.dimensions);
    if (parallel) return columnsToRows(parallel.dimensions);
    const titles = ["x", "y"].map((axis) => plain(layout[axis + "axis"]?.title?.text) || axis);
    const head = ["series", "id", ...titles, "value", "low", "high", "note"];
    const rows = data.flatMap((trace) => (trace.z ? cellsOf(trace) : pointsOf(trace)));
    const kept = head.map((_, i) => rows.some((row) => row[i] !== undefined && row[i] !== ""));
    return [head, ...rows].map((row) => row.filter((_, i) => kept[i]));
  }

  function columnsToRows(dimensions) {
    const columns = dimensions.map((one) => listOf(one.values));
    return [dimensions.map((one) => plain(one.label)), ...columns[0].map((_, i) => columns.map((column) => column[i]))];
  }

  /* Points that are moved apart to be seen have what was measured in `meta.x`. */
  function pointsOf(trace) {
    const ys = listOf(trace.y), xs = listOf(trace.meta?.x ?? trace.x), ids = listOf(trace.ids);
    const notes = [trace.hovertext ?? trace.text ?? []].flat();
    const [above, below] = [listOf(trace.error_y?.array), listOf(trace.error_y?.arrayminus ?? trace.error_y?.array)];
    return (ys.length ? ys : xs).map((_, i) => [
      plain(trace.name), ids[i], xs[i], ys[i], undefined, below.length ? ys[i] - below[i] : undefined,
      above.length ? ys[i] + above[i] : undefined, plain(notes[i]),
    ]);
  }

  function cellsOf(trace) {
    const rows = rowsIn(trace.z), xs = listOf(trace.x), ys = listOf(trace.y);
    const notes = trace.hovertext ?? trace.text;
    return rows.flatMap((row, i) => row.map((value, j) => [
      plain(trace.name), undefined, plain(xs[j] ?? j), plain(ys[i] ?? i), value, undefined, undefined,
      plain(notes?.[i]?.[j]),
    ]));
  }

  /* Plotly writes a numpy array as base64 of its bytes. */
  function listOf(values) {
    if (!values?.bdata) return [...(values ?? [])];
    const bytes = Uint8Array.from(atob(values.bdata), (one) => one.charCodeAt(0));
    return [...new TYPES[values.dtype](bytes.buffer)];
  }

  function rowsIn(table) {
    if (!table.bdata) return table.map(listOf);
    const flat = listOf(table), width = Number(String(table.shape).split(",")[1]);
    return Array.from({ length: flat.length / width }, (_, i) => flat.slice(i * width, (i + 1) * width));
  }

  /* Plotly's texts are markup: lines and bold, with the rest escaped. */
  function plain(text) {
    if (typeof text !== "string") return text;
    const bare = text.replace(/<br ?\/?>/g, "; ").replace(/<[^>]*>/g, "");
    return bare.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  }

  for (const plot of plots) {
    const figure = plot.closest("figure");
    figure.append(csvButton(figure.querySelector("h3").textContent, () => rowsOf(plot)));
  }
}
