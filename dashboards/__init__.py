"""What Grafana and Prometheus show of PromptBandit, as code; the built files lie beside it."""
