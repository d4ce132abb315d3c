// Shows the OpenAPI description of this node, and signs requests: a person enters the signing secret in the "Authorize"
// dialog, and this script replaces it by the signature in the browser. The secret itself is never sent.
"use strict";

const encoder = new TextEncoder();

async function hmac(secret, parts) {
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const digest = await crypto.subtle.sign("HMAC", key, encoder.encode(parts.join("")));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Functions that compute a signature of the secret entered, by the header that carries the signature.
const signers = {
  "X-CRM-Signature": async (secret, request) => {
    const timestamp = new Date().toISOString();
    request.headers["X-CRM-Timestamp"] = timestamp;
    return hmac(secret, [request.body ?? "", timestamp]);
  },
  "X-Webhook-Signature": (secret, request) => hmac(secret, [request.body ?? ""]),
  "X-Hub-Signature-256": async (secret, request) => "sha256=" + await hmac(secret, [request.body ?? ""]),
};

// Swagger UI has a dark mode, but does not follow the browser's.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const followColours = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followColours);
followColours();

window.ui = SwaggerUIBundle({
  url: "../openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  docExpansion: "list",
  requestInterceptor: async (request) => {
    if (request.headers?.["Idempotency-Key"] === "{random}") request.headers["Idempotency-Key"] = crypto.randomUUID();
    for (const [header, sign] of Object.entries(signers)) {
      if (request.headers?.[header]) {
        request.headers[header] = await sign(request.headers[header], request);
      }
    }
    return request;
  },
});
