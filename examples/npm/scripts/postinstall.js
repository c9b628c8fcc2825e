// Runs at the end of "npm ci", as the install script of a package would: it
// notes which versions the image was built with.
const fs = require("fs");
const path = require("path");

const root = path.join(__dirname, "..");
const { dependencies } = require(path.join(root, "package.json"));
const installed = {};
for (const name of Object.keys(dependencies)) {
  const file = path.join(root, "node_modules", name, "package.json");
  installed[name] = JSON.parse(fs.readFileSync(file, "utf8")).version;
}
fs.writeFileSync(path.join(root, "versions.json"), JSON.stringify(installed, null, 2) + "\n");
console.log("postinstall: noted %d versions", Object.keys(installed).length);
