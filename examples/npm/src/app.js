const express = require("express");
const pino = require("pino");
const semver = require("semver");

const log = pino({ name: "example", level: process.env.LOG_LEVEL || "info" });

function newApp(versions) {
  const app = express();
  app.get("/healthz", (req, res) => res.json({ ok: true }));
  app.get("/versions", (req, res) => res.json(versions));
  app.get("/newer/:name/:than", (req, res) => {
    const { name, than } = req.params;
    if (!Object.hasOwn(versions, name) || !semver.valid(than)) {
      log.warn({ name, than }, "bad question");
      return res.status(404).json({ error: "unknown package or version" });
    }
    res.json({ newer: semver.gt(versions[name], than) });
  });
  return app;
}

module.exports = { newApp, log };
