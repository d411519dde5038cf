#!/bin/bash
# fresh-run.sh - inside the folder of fresh.sh: `make run`, and one message from a publisher to a subscriber.
echo not yet; exit 1
