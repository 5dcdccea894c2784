"""Count what a server does, in the text format of Prometheus."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("imgcls_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.images = Counter("imgcls_images", "Images by what became of them.", ["outcome"], registry=self.registry)
        self.inside = Gauge("imgcls_images_inside", "Images in the server now.", registry=self.registry)
        self.request_seconds = Histogram(
            "imgcls_request_seconds", "Time of a prediction request.", buckets=_SECONDS, registry=self.registry
        )
        self.decode_seconds = Histogram(
            "imgcls_decode_seconds", "Time to decode and resize an image.", buckets=_SECONDS, registry=self.registry
        )
        self.model_seconds = Histogram(
            "imgcls_model_seconds", "Time to run a batch.", buckets=_SECONDS, registry=self.registry
        )
        self.batch_images = Histogram(
            "imgcls_batch_images", "Images in a batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=self.registry
        )
        self.model = Info("imgcls_model", "What is served.", registry=self.registry)

    def text(self) -> bytes:
        """Return all figures."""
        return generate_latest(self.registry)
