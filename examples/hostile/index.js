const { tint } = require("tint-helper");

console.log(tint("built"));
