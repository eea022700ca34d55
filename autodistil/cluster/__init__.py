"""Work on a Ray cluster, by default the embedded one of this machine. The only package that imports ray."""

import os

# Ray reads these when it is imported.
for _name, _value in (
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"),  # or each start warns of a change to come
    ("RAY_TRAIN_V2_ENABLED", "1"),
    ("RAY_gcs_rpc_server_connect_timeout_s", "60"),  # 5 seconds are too few to start on a busy machine
):
    os.environ.setdefault(_name, _value)
