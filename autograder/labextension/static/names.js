/* Names for ipywidgets' sliders. The handle that the keyboard moves has no name, so a screen reader says a number and
   not what of; here the words that stand beside the slider become its name. JupyterLab loads this file as it is: it is
   what a bundler would write, by hand. */
(globalThis._JUPYTERLAB ??= {})["training-deep-nets"] = {
  init() {},
  get: async () => () => ({ id: "training-deep-nets:names", autoStart: true, activate: watch }),
};

function watch() {
  let waiting = false;
  const name = () => {
    waiting = false;
    for (const handle of document.querySelectorAll(".widget-slider [role=slider]:not([aria-label])")) {
      const words = handle.closest(".widget-slider").querySelector(".widget-label")?.textContent.trim();
      if (words) handle.setAttribute("aria-label", words);
    }
  };
  new MutationObserver(() => {
    if (!waiting) requestAnimationFrame(name);
    waiting = true;
  }).observe(document.body, { subtree: true, childList: true });
}
