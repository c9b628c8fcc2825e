const test = require("node:test");
const request = require("supertest");

const { newApp } = require("../src/app");

const app = newApp({ express: "4.21.2" });

test("says that it is healthy", () => request(app).get("/healthz").expect(200, { ok: true }));

test("compares versions", () => request(app).get("/newer/express/4.0.0").expect(200, { newer: true }));

test("refuses what it does not know", () => request(app).get("/newer/leftpad/1.0.0").expect(404));
