// Shows this server's OpenAPI document. `validatorUrl: null` keeps Swagger UI from sending it to an external validator.
// Tokens that the user enters are not persisted.
"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  queryConfigEnabled: false,
  validatorUrl: null,
});
