"""An SMTP server for tests, with STARTTLS and AUTH. Prints its port, and each mail that it accepts, as lines of JSON.
Stores the mails in FOLDER, if there is one.

Usage: smtp_server.py CERTIFICATE KEY USER PASSWORD [FOLDER]
"""

import asyncio
import json
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Printer:
    """Prints the mails, and stores them as files in their order."""

    def __init__(self, folder):
        self.folder = folder and pathlib.Path(folder)
        self.count = 0

    async def handle_DATA(self, server, session, envelope):
        mail = {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "user": session.auth_data.decode(),
            "tls": session.ssl is not None,
            "content": envelope.content.decode(),
        }
        if self.folder:
            self.count += 1
            (self.folder / f"{self.count:04}.eml").write_bytes(envelope.content)
        print(json.dumps(mail), flush=True)
        return "250 OK"


async def main(certificate, key, user, password, folder=None):
    printer = Printer(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    def authenticate(server, session, envelope, mechanism, data):
        accepted = (data.login, data.password) == (user.encode(), password.encode())
        return AuthResult(success=accepted, handled=False, auth_data=data.login)

    def protocol():
        return SMTP(
            printer,
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=authenticate,
        )

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
