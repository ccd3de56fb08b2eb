// Shows the document of this very server. Nothing is asked of another one: Swagger UI would send the document to a
// validator elsewhere. A token that was entered is forgotten with the page.
"use strict";

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  queryConfigEnabled: false,
  validatorUrl: null,
});
