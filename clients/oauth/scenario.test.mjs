/** Tests the endpoints of OAuth 2.0 with openid-client: metadata, client credentials, token exchange, devices, refresh, revocation. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import * as oauth from "openid-client";

const url = process.env.TASKEY_URL;
const password = "correct horse battery staple";
const accessTokenType = "urn:ietf:params:oauth:token-type:access_token";
const exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange";

async function call(method, path, token, body) {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  return fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
}

async function jsonOf(response) {
  assert.equal(response.status, 200);
  return response.json();
}

async function logIn(email) {
  return jsonOf(await call("POST", "/v1/auth/login", undefined, { email, password }));
}

async function signUp() {
  const email = `${crypto.randomUUID()}@example.org`;
  await jsonOf(await call("POST", "/v1/auth/signup", undefined, { email, password }));
  return email;
}

/** Creates a service account, as a new administrator. */
async function createServiceAccount(scopes) {
  const email = await signUp();
  const database = `sqlite:${process.env.TASKEY_DATA}/auth.db`;
  execFileSync(process.env.AUTH_SERVICE_PROGRAM, ["users", "set-role", email, "admin", "--database-url", database]);
  const admin = (await logIn(email)).accessToken;
  return jsonOf(await call("POST", "/v1/admin/serviceAccounts", admin, { label: "openid-client", scopes }));
}

/** Discovers the endpoints. The gateway of the test serves no TLS. */
async function discover(id, authentication) {
  const options = { algorithm: "oauth2", execute: [oauth.allowInsecureRequests] };
  return oauth.discovery(new URL(url), id, undefined, authentication, options);
}

for (const [name, method] of [
  ["client_secret_basic", oauth.ClientSecretBasic],
  ["client_secret_post", oauth.ClientSecretPost],
]) {
  test(`service account with ${name}`, async () => {
    const account = await createServiceAccount(["tasks.read", "tasks.write", "clients.forward"]);
    const config = await discover(account.id, method(account.secret));
    const own = await oauth.clientCredentialsGrant(config, { scope: "tasks.read tasks.write" });
    assert.deepEqual([own.scope, own.expires_in], ["tasks.read tasks.write", 300]);
    await jsonOf(await call("POST", "/v1/tasks", own.access_token, { title: "Send invoices" }));
    await assert.rejects(oauth.clientCredentialsGrant(config, { scope: "admin.read" }), { error: "invalid_scope" });

    const user = await logIn(await signUp());
    const task = await jsonOf(await call("POST", "/v1/tasks", user.accessToken, { title: "Buy milk" }));
    const parameters = { subject_token: user.accessToken, subject_token_type: accessTokenType, scope: "tasks.read" };
    const exchanged = await oauth.genericGrantRequest(config, exchangeGrant, parameters);
    const path = `/v1/tasks/${task.id}`;
    assert.equal((await jsonOf(await call("GET", path, exchanged.access_token))).title, "Buy milk");
    assert.equal((await call("DELETE", path, exchanged.access_token)).status, 403);
    const logout = { refreshToken: user.refreshToken, waitForVerifiers: true };
    await jsonOf(await call("POST", "/v1/auth/logout", undefined, logout));
    assert.equal((await call("GET", path, exchanged.access_token)).status, 401);

    await oauth.tokenRevocation(config, own.access_token);
    const wrong = await discover(account.id, method("wrong"));
    await assert.rejects(oauth.clientCredentialsGrant(wrong), (error) => error.status === 401);
  });
}

test("a device gets a session after a user has allowed it", async () => {
  const user = await logIn(await signUp());
  const config = await discover("openid-client", oauth.None());
  const decide = async ({ user_code: code }, action) =>
    jsonOf(await call("POST", `/v1/me/deviceAuthorizations/${code}:${action}`, user.accessToken, {}));
  const device = await oauth.initiateDeviceAuthorization(config, { scope: "tasks.read account.read" });
  assert.equal(device.verification_uri, `${url}/device`);
  await decide(device, "approve");
  const issued = await oauth.pollDeviceAuthorizationGrant(config, device);
  assert.equal(issued.scope, "tasks.read account.read");
  assert.equal((await call("GET", "/v1/me", issued.access_token)).status, 200);
  assert.equal((await call("PATCH", "/v1/me", issued.access_token, { displayName: "x" })).status, 403);
  const refreshed = await oauth.refreshTokenGrant(config, issued.refresh_token);
  assert.equal(refreshed.scope, "tasks.read account.read");

  const refused = await oauth.initiateDeviceAuthorization(config, {});
  await decide(refused, "deny");
  await assert.rejects(oauth.pollDeviceAuthorizationGrant(config, refused), { error: "access_denied" });
});

test("a user refreshes a session and revokes it", async () => {
  const pair = await logIn(await signUp());
  const config = await discover("any", oauth.None());
  const refreshed = await oauth.refreshTokenGrant(config, pair.refreshToken);
  assert.equal((await call("GET", "/v1/me", refreshed.access_token)).status, 200);
  await oauth.tokenRevocation(config, refreshed.refresh_token);
  await assert.rejects(oauth.refreshTokenGrant(config, refreshed.refresh_token), { error: "invalid_grant" });
});
