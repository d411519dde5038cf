"""A client of centrifuge-python: does what lines of JSON on standard input say, and tells what happens as such lines.

In:  {"id": 1, "do": "publish", "channel": "a", "data": 5}, and {"do": "token", "ask": 3, "token": "..."}
Out: {"event": "done", "id": 1, "result": {...}} or {"event": "failed", "id": 1, "code": 103, ...},
     {"event": "token_wanted", "ask": 3, "channel": "a"}, and each event of the SDK by its own name.
The arguments are the URL, the options of the client as a JSON object, and a file of certificates or nothing.
"""

import asyncio
import dataclasses
import json
import ssl
import sys

from centrifuge import Client, ClientEventHandler, ReplyError, SubscriptionEventHandler

CLIENT_EVENTS = ["connecting", "connected", "disconnected", "error"]
SUBSCRIPTION_EVENTS = ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error"]


def say(event, **fields):
    print(json.dumps({"event": event, **fields}, default=repr), flush=True)


def teller(base, names, **fields):
    """An event handler that tells each event of these names, with the fields of its context."""

    def method(name):
        async def tell(self, ctx):
            say(name, **{**fields, **dataclasses.asdict(ctx)})

        return tell

    return type("Teller", (base,), {f"on_{name}": method(name) for name in names})()


class Asked:
    """Tokens are made by whoever drives this program."""

    def __init__(self):
        self.waiting = {}

    async def token(self, channel=None):
        ask = len(self.waiting)
        self.waiting[ask] = asyncio.get_running_loop().create_future()
        say("token_wanted", ask=ask, channel=channel)
        return await self.waiting[ask]


class Program:
    def __init__(self, url, options, trusted):
        self.asked = Asked()
        if options.pop("ask_token", False):
            options["get_token"] = self.asked.token
        if trusted:
            options["ssl_context"] = ssl.create_default_context(cafile=trusted)
        # events of server-side subscriptions come to the client's handler, and name their channel
        events = teller(ClientEventHandler, sorted({*CLIENT_EVENTS, *SUBSCRIPTION_EVENTS}))
        self.client = Client(url, events=events, proxy=None, **options)

    def token(self, ask, token):
        self.asked.waiting[ask].set_result(token)

    async def connect(self):
        await self.client.connect()

    async def disconnect(self):
        await self.client.disconnect()

    async def subscribe(self, channel, ask_token=False, **options):
        if ask_token:
            options["get_token"] = self.asked.token
        events = teller(SubscriptionEventHandler, SUBSCRIPTION_EVENTS, sub=channel)
        sub = self.client.new_subscription(channel, events=events, **options)
        await sub.subscribe()

    async def unsubscribe(self, channel):
        await self.client.get_subscription(channel).unsubscribe()

    async def publish(self, channel, data):
        return await self.client.publish(channel, data)

    async def presence(self, channel):
        return await self.client.presence(channel)

    async def presence_stats(self, channel):
        return await self.client.presence_stats(channel)

    async def history(self, channel, **options):
        return await self.client.history(channel, **options)

    async def rpc(self, method, data):
        return await self.client.rpc(method, data)

    async def do(self, id, do, **params):
        try:
            result = await getattr(self, do)(**params)
            say("done", id=id, result=dataclasses.asdict(result) if result else None)
        except ReplyError as error:
            say("failed", id=id, code=error.code, message=error.message, temporary=error.temporary)
        except Exception as error:
            say("failed", id=id, code=None, message=repr(error))


async def main():
    url, options, trusted = sys.argv[1:]
    program = Program(url, json.loads(options), trusted)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()  # a task that nobody holds may be collected
    while line := await reader.readline():
        command = json.loads(line)
        if command["do"] == "token":
            program.token(command["ask"], command["token"])
            continue
        task = asyncio.create_task(program.do(**command))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
