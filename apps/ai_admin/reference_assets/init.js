// Shows the OpenAPI document with Swagger UI, in the colours that the reader's system prefers.
"use strict";

const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

function applyColours() {
  document.documentElement.classList.toggle("dark-mode", prefersDark.matches);
}

// What the address names on this page: an error, or nothing where it names an operation.
const target = document.getElementById(decodeURIComponent(window.location.hash.slice(1)));

// The operations are drawn above the errors and push them down; go back to the one that the address names.
function showTarget() {
  if (document.querySelector("#api .opblock")) {
    target?.scrollIntoView();
  } else {
    requestAnimationFrame(showTarget);
  }
}

applyColours();
prefersDark.addEventListener("change", applyColours);

window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  // Swagger UI would take the name of an error for one of an operation, and change the address.
  deepLinking: target === null,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  docExpansion: "list",
  layout: "BaseLayout",
  onComplete: showTarget,
  presets: [window.SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
