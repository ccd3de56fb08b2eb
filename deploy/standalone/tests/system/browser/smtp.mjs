// A mail server that refuses recipients until it is told to accept them.
import { createServer } from "node:net";

/** Starts the server. Returns an object whose `recipientReply` is the reply to the recipient of a mail. */
export async function startMailServer(port) {
  const mailServer = { recipientReply: "550 5.1.1 no such mailbox <script>" };
  const server = createServer((socket) => {
    let text = "", isData = false;
    const send = (line) => socket.write(`${line}\r\n`);
    const reply = (line) => {
      if (isData) {
        isData = line !== ".";
        return isData ? undefined : send("250 accepted");
      }
      const command = line.slice(0, 4).toUpperCase();
      isData = command === "DATA";
      if (isData) return send("354 end with a dot");
      if (command === "QUIT") return socket.end("221 bye\r\n");
      return send(command === "RCPT" ? mailServer.recipientReply : "250 ok");
    };
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk) => {
      const lines = (text + chunk).split("\r\n");
      text = lines.pop();
      lines.forEach(reply);
    });
    send("220 mail.example.org");
  });
  // The test ends although the server listens.
  server.unref();
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return mailServer;
}
