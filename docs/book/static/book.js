// What scrolls in a box of its own must be reachable by keyboard.
function letBoxesScroll() {
  const boxes = "pre, .table-wrapper, .formula, .tdn-claim table, .cell_output .text_html, .cell_output .text_markdown";
  for (const box of document.querySelectorAll(boxes)) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
addEventListener("load", letBoxesScroll);
addEventListener("resize", letBoxesScroll);
document.addEventListener("toggle", letBoxesScroll, true); // what was folded has no width before
