"use strict";

// Nothing is kept in the browser: a key that was typed in is gone with the page.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  // Otherwise the document's address is sent to a service of somebody else's.
  validatorUrl: null,
});
