const { newApp, log } = require("./app");
const versions = require("../versions.json");

const port = Number(process.env.PORT || 8080);
const server = newApp(versions).listen(port, () => log.info({ port }, "listening"));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => server.close());
}
