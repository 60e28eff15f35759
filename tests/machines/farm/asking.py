"""Asks services over HTTP from the operator's host, each request in a connection of its own.

    asking.py TIMES PAUSE SOURCE=VIP ...

All services side by side, each TIMES times (0: until standard input ends), PAUSE seconds apart.
Prints one JSON object: of each VIP how many requests had which answer; what failed is counted
under the words of its error. Standard library only: it runs in a namespace, without the checkout.
"""

import http.client
import json
import select
import sys
import threading
from collections import Counter

PATIENCE = 30.0  # seconds; a lost packet is sent again within
ended = threading.Event()


def ask(source: str, vip: str) -> str:
    connection = http.client.HTTPConnection(vip, timeout=PATIENCE, source_address=(source, 0))
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def ask_on(source: str, vip: str, times: int, pause: float, answers: Counter[str]) -> None:
    while not ended.is_set():
        answers[ask(source, vip)] += 1
        if answers.total() == times:
            return
        ended.wait(pause)


def main(times: str, pause: str, *services: str) -> None:
    answers: dict[str, Counter[str]] = {}
    asking = []
    for service in services:
        source, _, vip = service.partition("=")
        answers[vip] = Counter()
        order = (source, vip, int(times), float(pause), answers[vip])
        asking.append(threading.Thread(target=ask_on, args=order))
        asking[-1].start()
    if times == "0":
        select.select([sys.stdin], [], [], 3600)
        ended.set()
    for each in asking:
        each.join()
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
