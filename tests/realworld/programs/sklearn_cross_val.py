"""scikit-learn's cross_val_score over processes of joblib's multiprocessing backend."""
from joblib import parallel_config
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

if __name__ == "__main__":
    X, y = make_classification(n_samples=400, n_features=20, random_state=0)
    with parallel_config(backend="multiprocessing"):
        print(cross_val_score(LogisticRegression(max_iter=200), X, y, cv=4, n_jobs=2).round(6).tolist())
