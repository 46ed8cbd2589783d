# The single-process form: `ai-admin serve`. docs/deployment.md tells how to build and run it.
# A tag and no digest: for production, build from the digest that your registry has checked.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore
# The dependencies first: they change less often than the sources, and stay in the build's cache.
COPY requirements/build.txt requirements/container.txt requirements/
RUN python -m venv --without-pip /opt/ai-admin \
    && python -m pip --python /opt/ai-admin/bin/python install --require-hashes --requirement requirements/container.txt \
    && python -m pip install --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md ./
COPY apps/ai_admin apps/ai_admin
RUN python -m pip wheel --no-deps --no-index --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/ai-admin/bin/python install --no-deps --no-index dist/*.whl

FROM ${BASE}
# HOME is where libpq looks for certificates. Nothing is written but to /tmp.
ENV PATH=/opt/ai-admin/bin:$PATH HOME=/home/ai-admin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/ai-admin /opt/ai-admin
WORKDIR /home/ai-admin
USER 10001:10001
EXPOSE 8080
# Past any proxy that the environment names: this asks the process beside it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["ai-admin"]
CMD ["serve", "--host", "0.0.0.0"]
