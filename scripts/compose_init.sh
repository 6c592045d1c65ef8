#!/usr/bin/env bash
# One shot before the Airflow services start: metadata schema, pools, the login's password, and the reference store.
# Safe to run again.
set -euo pipefail

: "${AIRFLOW_HOME:?}" "${AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE:?}" "${ADMIN_PASSWORD:?set it in .env}"

airflow db migrate
if [ -n "${LIFECYCLE_STORES:-}" ]; then
  pools=$(mktemp)
  trap 'rm -f "$pools"' EXIT
  lifecycle stores pools > "$pools"
  airflow pools import "$pools"
else
  airflow pools import "${POOLS_FILE:-$AIRFLOW_HOME/pools.json}"
fi

# Before the API server starts, or it would invent a password and print it.
umask 077
mkdir -p "$(dirname "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE")"
python -c 'import json, os; print(json.dumps({"admin": os.environ["ADMIN_PASSWORD"]}))' \
  > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"

# Schemas and buckets of the product's store. Where it exists already, only what is missing is added; other stores of a
# file of stores are there before us.
LIFECYCLE_STORES='' lifecycle store create
