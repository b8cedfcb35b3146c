"""How well scores tell anomalous from normal: AUROC, AP, F1-max and AUPRO, each with a bound on its own error."""
