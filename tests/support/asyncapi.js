// Reads an AsyncAPI document from standard input with the AsyncAPI project's parser; prints what is wrong, as JSON.
const { Parser } = require("@asyncapi/parser");

new Parser()
  .parse(require("fs").readFileSync(0, "utf8"))
  .then(({ document, diagnostics }) => {
    const wrong = diagnostics.filter((one) => one.severity <= 1);
    console.log(JSON.stringify({ parsed: document !== undefined, wrong: wrong.map((one) => `${one.path.join(".")}: ${one.message}`) }));
  });
