"use strict";

/* Tables: sorted by their headings, filtered by words, shown in pages. The leading rows stand in the HTML; the others
   lie in a block of JSON beside it and become rows when they are shown. Groups are sorted each in itself. */
{
  const PAGE = 100;
  const count = (number) => number.toLocaleString("en");

  /* What a cell without data-v is sorted by: `1.2k`, `3 min 20 s` as numbers, anything else as it stands. */
  function keyOf(cell) {
    if (cell.dataset.v !== undefined) return cell.dataset.v;
    const text = cell.textContent.trim();
    if (text === "–") return "";
    const times = [...text.matchAll(/([\d.]+) (ms|s|min|h)\b/g)];
    const units = { ms: 0.001, s: 1, min: 60, h: 3600 };
    if (/^[\d.]+ (ms|s|min|h)\b/.test(text)) return String(times.reduce((sum, [, n, unit]) => sum + n * units[unit], 0));
    const scaled = /^(-?[\d,]*\.?\d+)\s?([kMGT]?)B?( %)?$/.exec(text);
    const scales = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
    return scaled ? String(scaled[1].replaceAll(",", "") * (scales[scaled[2]] ?? 1)) : text;
  }

  function compare(a, b, sign) {
    if (a === "" || b === "") return (a === "") - (b === ""); // what is not known comes last
    const order = isNumber(a) && isNumber(b) ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return sign * order;
  }

  const searched = (...texts) => texts.join(" ").toLowerCase();

  function readRow(element, group) {
    const cells = [...element.cells];
    const texts = cells.map((cell) => cell.textContent.trim());
    return { group, element, texts, keys: cells.map(keyOf), search: searched(element.className, ...texts) };
  }

  function unpackRow([group, kind, note, tags, texts, keys]) {
    const known = keys.map((key, i) => key ?? texts[i]);
    return { group, kind, note, tags, texts, keys: known, search: searched(kind, ...tags, ...texts) };
  }

  /* A row like `pattern` with the row's own texts. */
  function makeElement(row, pattern) {
    const element = pattern.cloneNode(true);
    element.className = row.kind;
    element.title = row.note;
    [...element.cells].forEach((cell, i) => {
      cell.textContent = row.texts[i];
      cell.dataset.v = row.keys[i];
      if (cell.tagName !== "TH") return;
      for (const name of row.tags) {
        const tag = document.createElement("span");
        tag.className = "tag";
        tag.textContent = name;
        cell.append(" ", tag);
      }
    });
    return element;
  }

  function enhance(table) {
    const frame = table.closest(".data-table");
    const headings = [...table.tHead.rows[0].cells];
    const bodies = [...table.tBodies].filter((body) => !body.classList.contains("group"));
    const rows = bodies.flatMap((body, group) => [...body.rows].map((row) => readRow(row, group)));
    const pattern = rows[0]?.element.cloneNode(true);
    const block = frame && document.getElementById(frame.dataset.rest);
    const order = { column: -1, sign: 1 };
    let words = [], page = 0, unread = block;
    const total = rows.length + (block ? Number(block.dataset.rows) : 0);

    function found() {
      if (unread) rows.push(...JSON.parse(block.textContent).map(unpackRow));
      unread = null;
      const kept = rows.filter((row) => words.every((word) => row.search.includes(word)));
      const key = (row) => row.keys[order.column];
      const by = (a, b) => a.group - b.group || (order.column < 0 ? 0 : compare(key(a), key(b), order.sign));
      return kept.sort(by);
    }

    function show() {
      const kept = found();
      const pages = Math.max(1, Math.ceil(kept.length / PAGE));
      page = Math.min(Math.max(page, 0), pages - 1);
      const shown = kept.slice(page * PAGE, (page + 1) * PAGE);
      bodies.forEach((body, group) => {
        const own = shown.filter((row) => row.group === group);
        body.replaceChildren(...own.map((row) => (row.element ??= makeElement(row, pattern))));
        const heading = body.previousElementSibling;
        if (heading?.classList.contains("group")) heading.hidden = own.length === 0;
      });
      tell(kept.length, pages, shown.length);
    }

    /* Sorting. */
    function sortBy(heading, column) {
      order.sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      order.column = column;
      headings.forEach((one) => one.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
      page = 0;
      show();
    }
    if (total > 1) headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent.trim();
      button.addEventListener("click", () => sortBy(heading, column));
      heading.replaceChildren(button);
    });

    /* Filter, pages and CSV. */
    const scroll = table.closest(".scroll");
    const tools = document.createElement("div");
    const status = document.createElement("span");
    status.setAttribute("role", "status");
    const cut = frame?.querySelector(".cut");
    const steps = [];
    tools.className = "tools";

    function tell(kept, pages, shown) {
      const from = page * PAGE;
      const rows = shown ? `Rows ${count(from + 1)} to ${count(from + shown)} of ${count(kept)}` : "No row";
      const all = kept < total ? `, filtered from ${count(total)}` : "";
      status.textContent = kept < total || pages > 1 ? rows + all : "";
      if (cut) cut.firstElementChild.textContent = rows + all;
      for (const [button, to] of steps) {
        button.hidden = pages < 2;
        button.setAttribute("aria-disabled", String(to() < 0 || to() >= pages));
      }
    }

    function step(name, to) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => {
        if (button.getAttribute("aria-disabled") === "true") return;
        page = to();
        show();
      });
      steps.push([button, to]);
      return button;
    }

    if (frame && total > 1) {
      const label = document.createElement("label");
      const field = document.createElement("input");
      field.type = "search";
      field.autocomplete = "off";
      field.addEventListener("input", () => {
        words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
        page = 0;
        show();
      });
      label.append("Show rows that contain ", field);
      tools.append(label, status, step("Previous", () => page - 1), step("Next", () => page + 1));
      tell(total, Math.ceil(total / PAGE), Math.min(total, PAGE));
      scroll.before(tools);
    } else {
      scroll.after(tools);
    }
    tools.append(csvButton(table.dataset.name ?? "table", () => [
      headings.map((one) => one.textContent + (one.dataset.unit ? ` (${one.dataset.unit})` : "")),
      ...found().map((row) => row.texts.map((text, i) => {
        if (frame && !("text" in headings[i].dataset)) return row.keys[i];
        return text === "–" ? "" : text;
      })),
    ]));
  }

  document.querySelectorAll(".scroll > table").forEach(enhance);
}
