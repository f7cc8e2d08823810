# docker build -t deepexpr .
# docker run --rm -it --gpus all -v "$PWD":/data deepexpr python3 Inference.py --help
# docker run --rm -it --gpus all --network host deepexpr python3 app.py     # the page, at http://127.0.0.1:7860/
#
# The base asks the host for a driver of CUDA 13 or later, which PyTorch's wheels need; these bring the rest of CUDA
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

# libgl1 and libglib2.0-0t64: for the OpenCV that face-alignment imports
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    python3 python3-venv libgl1 libglib2.0-0t64 \
 && rm -rf /var/lib/apt/lists/*

# Ubuntu's image has a user of number 1000: files written to a mounted folder then belong to most people's own account
USER ubuntu
WORKDIR /home/ubuntu/deepexpr
RUN python3 -m venv /home/ubuntu/venv
ENV PATH=/home/ubuntu/venv/bin:$PATH PYTHONUNBUFFERED=1

COPY --chown=ubuntu requirements.txt requirements-app.txt .
RUN pip install --no-cache-dir -r requirements.txt -r requirements-app.txt
COPY --chown=ubuntu . .

VOLUME /data
CMD ["python3", "Inference.py", "--help"]
