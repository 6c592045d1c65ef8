# The project on the official Airflow image: the package without its demo and test extras, DAGs, plugins and configuration.
ARG AIRFLOW_IMAGE=apache/airflow:3.3.2
FROM ${AIRFLOW_IMAGE}

WORKDIR /opt/airflow
COPY --chown=airflow:0 pyproject.toml README.md requirements.lock /opt/airflow/build/
COPY --chown=airflow:0 include /opt/airflow/build/include

# The lock as constraints: the same versions as in development and CI. Hashes go, since pip would then want one for the
# package itself, which has none.
RUN sed -e '/^ *--hash=/d' -e 's/ *\\$//' build/requirements.lock > build/constraints.txt \
    && pip install --no-cache-dir --constraint build/constraints.txt ./build \
    && rm -rf build

COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 plugins /opt/airflow/plugins
COPY --chown=airflow:0 config /opt/airflow/config
COPY --chown=airflow:0 docs/runbooks /opt/airflow/docs/runbooks
COPY --chown=airflow:0 pools.json scripts/compose_init.sh /opt/airflow/
