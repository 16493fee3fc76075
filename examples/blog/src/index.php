<?php
// Shows the posts, newest first, and takes new ones.
require __DIR__ . '/posts.php';

$posts = new Posts();
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $posts->add($_POST['title'] ?? 'Untitled', $_POST['text'] ?? '');
    http_response_code(303);
    header('Location: /');
    exit;
}
$title = htmlspecialchars(parse_ini_file('/etc/blog.ini')['title']);
?>
<!doctype html>
<title><?= $title ?></title>
<h1><?= $title ?></h1>
<?php foreach ($posts->all() as $post): ?>
<article>
  <h2><?= htmlspecialchars($post['title']) ?></h2>
  <p><?= nl2br(htmlspecialchars($post['text'])) ?></p>
</article>
<?php endforeach ?>
<form method="post">
  <input name="title" placeholder="Title">
  <textarea name="text"></textarea>
  <button>Publish</button>
</form>
