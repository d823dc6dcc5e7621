// Sort a table by the column whose heading was pressed; numbers come from data-value, else from the text.
document.querySelectorAll("table.sortable").forEach(function (table) {
  var body = table.tBodies[0];
  Array.prototype.forEach.call(table.tHead.rows[0].cells, function (heading, column) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.textContent = "";
    heading.appendChild(button);
    button.addEventListener("click", function () {
      var falling = heading.getAttribute("aria-sort") === "ascending";
      Array.prototype.forEach.call(table.tHead.rows[0].cells, function (other) { other.removeAttribute("aria-sort"); });
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      var rows = Array.prototype.slice.call(body.rows);
      rows.sort(function (first, second) {
        var order = compare(key(first.cells[column]), key(second.cells[column]));
        return falling ? -order : order;
      });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  });
});

function key(cell) {
  var text = cell.hasAttribute("data-value") ? cell.getAttribute("data-value") : cell.textContent.trim();
  var number = Number(text);
  return text !== "" && !isNaN(number) ? number : text;
}

function compare(first, second) {
  if (typeof first === "number" && typeof second === "number") { return first - second; }
  if (typeof first === "number") { return -1; }
  if (typeof second === "number") { return 1; }
  return first.localeCompare(second, undefined, { numeric: true });
}

// Play one clip at a time.
document.addEventListener("play", function (event) {
  document.querySelectorAll("audio, video").forEach(function (player) {
    if (player !== event.target) { player.pause(); }
  });
}, true);
